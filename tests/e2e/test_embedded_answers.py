"""End to end on the real embedded model: questions of different kinds, valid skeletons, expansions that are texts."""

import re

import pytest

from sot_graph import create_sot_graph

pytestmark = pytest.mark.local_model

QUESTIONS = [
    "How can I improve my time management skills?",
    "What are the most effective ways to deal with stress?",
    "What are the main differences between cats and dogs as pets?",
    "How does a bicycle stay upright?",
    "Write a blog post about a trip to Hawaii.",
    "What caused the fall of the Roman Empire?",
    "How do vaccines protect people from diseases?",
    "What should I consider when buying a used car?",
    "Explain the benefits of learning a second language.",
    "How can a small town attract more visitors?",
]
WORD = re.compile(r"[^\W\d_]+")
COMMON = frozenset(
    WORD.findall(
        "a about and are as at be by can do does for from how i in into is it its main may more most my of on one or "
        "our should that the their them these they this to used use was what when where which who why will with you "
        "your"
    )
)


def content_words(text):
    """Words with a meaning of their own, roughly stemmed."""
    return {word[:5] for word in map(str.casefold, WORD.findall(text)) if word not in COMMON and len(word) > 2}


def faults(question, expansion):
    text = expansion["text"]
    sentences = [sentence.strip().casefold() for sentence in re.split(r"(?<=[.!?])\s+", text) if sentence.strip()]
    if expansion["status"] != "ok":
        yield expansion["status"]
    if text.casefold().lstrip("*# ").startswith(expansion["title"].casefold() + ":"):
        yield "echoes its title"
    if len(set(sentences)) < len(sentences):
        yield "repeats a sentence"
    if not content_words(text) & (content_words(question) | content_words(expansion["title"])):
        yield "shares no content word with question or title"


@pytest.fixture(scope="module")
def results(local_chat):
    graph = create_sot_graph(local_chat)
    return {question: graph.invoke({"question": question}) for question in QUESTIONS}


def test_every_question_gets_a_skeleton_of_three_to_ten_different_points(results):
    for question, result in results.items():
        titles = [point["title"].casefold() for point in result["skeleton"]]
        assert result["route"] == "skeleton", question
        assert 3 <= len(titles) <= 10, question
        assert len(set(titles)) == len(titles), question


def test_at_most_one_expansion_in_ten_is_a_bad_text(results):
    bad, count = [], 0
    for question, result in results.items():
        for expansion in result["expansions"]:
            count += 1
            bad += [(question, expansion["title"], fault) for fault in faults(question, expansion)]
    assert len(bad) <= count / 10, bad


def test_every_call_is_counted_with_its_tokens(results):
    for result in results.values():
        total = result["usage"]["total"]
        assert total["calls"] >= 1 + len(result["skeleton"])
        assert total["input_tokens"] > 0
        assert total["output_tokens"] > 0
