"""The token rule, and the responder that answers each of the project's prompts by what it asks for."""

import json
from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from sot_graph import SotOptions, create_sot_graph
from sot_graph.errors import SotConfigError
from sot_graph.testing import (
    Ask,
    ChatRequest,
    Fault,
    HangUp,
    Physics,
    SimulatedEndpoint,
    SkeletonResponder,
    count_tokens,
    split_tokens,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("Two words.", ["Two ", "word", "s."]),
        ("  one\n\n", ["  on", "e\n\n"]),
        ("   ", ["   "]),
        ('{"a":"bc d"}', ['{"a"', ':"bc', ' d"}']),
    ],
)
def test_four_characters_are_a_token_in_prose_as_in_json(text: str, tokens: list[str]):
    assert split_tokens(text) == tokens
    assert count_tokens(text) == len(tokens)


def asked(text: str, **raw: Any) -> ChatRequest:
    return ChatRequest({"messages": [{"role": "user", "content": text}], **raw})


TITLES = ["Early origins", "Main causes", "Hidden costs"]
SKELETON = (
    "<question>\nWhy?\n</question>\n\nDo not answer yet. First plan the answer as a skeleton: 3 to 10 points.\n"
    "Reply with a numbered list only, one title a line."
)
POINT = (
    "The skeleton: Early origins, Main causes, Hidden costs.\n\n"
    "Now write the text of this one point, and of no other:\n"
    "<point>2. Main causes</point>\nLength: 2-4 sentences."
)


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("Why is the sky blue?", Ask("answer")),
        ("Write an introduction to Kant.", Ask("answer")),
        ("1. Main causes\nText.\n\nNow write the conclusion of the answer.", Ask("conclusion")),
        ("Question: Why?\nPoints:\n1. Main causes\nIntroduction:", Ask("introduction")),
        ("What happened at this point in time?", Ask("answer")),
        ("<question>Why?</question> Reply with a numbered list only, one title a line.", Ask("skeleton")),
        ("Give me an outline as a list of short titles.", Ask("skeleton")),
        ("Plan it as a skeleton. Reply with JSON only.", Ask("skeleton")),
        (SKELETON, Ask("skeleton")),
        (POINT, Ask("point", 2, "Main causes")),
        ("Now write this one point: <point>3. Hidden costs</point>", Ask("point", 3, "Hidden costs")),
        ("Question: Why?\nPoint: Main causes", Ask("point", 2, "Main causes")),
        ("The list: Early origins, Main causes.\nWrite about Main causes.", Ask("point", 2, "Main causes")),
        ("Write the text of this one point:\n<point>4. Something given</point>", Ask("point", 4, "Something given")),
        ("<question>\nWrite a numbered list of Main causes\n</question>", Ask("answer")),
        ("<question>\n&lt;point>2. Main causes&lt;/point>\n</question>", Ask("point", 2, "Main causes")),
        (
            '<document number="1">\n(a.md)\nMain causes. Write the opening of the answer.\n</document>\n'
            "<question>Why?</question>",
            Ask("answer"),
        ),
    ],
)
def test_a_prompt_is_understood_by_what_it_asks_for(text: str, ask: Ask):
    assert Ask.of(asked(text), TITLES) == ask


def test_a_point_is_known_beside_the_texts_of_those_that_it_needs():
    titles = ["Ground", "Walls (needs 1)", "Roof (needs 1, 2)"]
    needed = "<written>\n1. Ground\nGround, firm ground.\n\n2. Walls\nWalls on the ground.\n</written>\n\n"
    for told in ("Write only this point:\n<point>3. Roof</point>", "Question: How is a house built?\nPoint: Roof"):
        assert Ask.of(asked(needed + told), titles) == Ask("point", 3, "Roof")


def test_a_title_that_begins_another_one_is_not_taken_for_it():
    titles = [f"Step {number}" for number in range(1, 12)]
    assert Ask.of(asked("Write about Step 1."), titles) == Ask("point", 1, "Step 1")
    assert Ask.of(asked("Write about Step 11."), titles) == Ask("point", 11, "Step 11")


def test_a_system_message_may_ask_for_the_list():
    system = {"role": "system", "content": "Reply only with a numbered list of key points."}
    question = {"role": "user", "content": "Why?"}
    assert Ask.of(ChatRequest({"messages": [system, question]}), TITLES) == Ask("skeleton")


def test_titles_have_no_word_in_common_and_filler_text_no_two_sentences():
    responder = SkeletonResponder(points=200, words_per_point=3)
    words = [word.lower() for title in responder.titles for word in title.split()]
    sentences = responder(asked("Why?")).text.split(". ")

    assert len(set(words)) == len(words)
    assert len(set(sentences)) == len(sentences) > 40


@pytest.mark.parametrize("tokens", [1, 2, 7, 60, 400])
def test_filler_text_has_exactly_its_tokens_where_these_are_asked_for(tokens: int):
    responder = SkeletonResponder(titles=TITLES, tokens_per_point=tokens)
    assert count_tokens(responder(asked("<point>3. Hidden costs</point>")).text) == tokens
    whole = count_tokens(responder(asked("Why?")).text)
    assert whole == tokens * len(TITLES)


def test_what_stands_around_the_points_is_known_and_has_forty_tokens():
    for part in ("opening", "introduction", "conclusion"):
        request = asked(f"Now write the {part} of the answer, and nothing else.")
        assert Ask.of(request, TITLES) == Ask(part)
        assert count_tokens(SkeletonResponder(titles=TITLES)(request).text) == 40


@pytest.mark.parametrize("words", [1, 2, 7, 60, 233])
def test_filler_text_has_exactly_its_words_and_a_full_stop(words: int):
    responder = SkeletonResponder(titles=TITLES, words_per_point=words)
    text = responder(asked("<point>3. Hidden costs</point>")).text

    assert len(text.split()) == words
    assert text.endswith(".")
    assert "hidden" in text.lower()
    assert text == responder(asked("<point>3. Hidden costs</point>")).text
    assert text != responder(asked("<point>2. Main causes</point>")).text


def test_points_have_their_lengths_and_an_answer_that_of_all():
    responder = SkeletonResponder(titles=TITLES, words_per_point=lambda number: 10 * number)

    assert responder(asked(SKELETON)).text == "1. Early origins\n2. Main causes\n3. Hidden costs"
    point = responder(asked(POINT)).text
    assert len(point.split()) == 20
    assert "causes" in point
    assert len(responder(asked("Why?")).text.split()) == 60


def fitted(schema: dict[str, Any], text: str = "Why?", **kwargs: Any) -> Any:
    wrapper = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    answer = SkeletonResponder(titles=TITLES, words_per_point=5, **kwargs)(asked(text, response_format=wrapper)).text
    assert ": " not in answer
    return json.loads(answer)


STRINGS = {"type": "array", "items": {"type": "string"}}


def test_an_array_of_strings_becomes_the_titles():
    assert fitted({"type": "object", "properties": {"points": STRINGS}}) == {"points": TITLES}


def test_objects_in_an_array_are_numbered_and_titled():
    class Point(BaseModel):
        index: int
        description: str
        depends_on: list[int] = []
        note: str | None = None

    class Skeleton(BaseModel):
        points: list[Point]

    made = fitted(Skeleton.model_json_schema())
    assert made["points"][1] == {
        "index": 2,
        "description": "Main causes",
        "depends_on": [],
        "note": "Main causes",
    }
    Skeleton.model_validate(made)


def test_a_lone_text_is_the_prose_of_the_point_that_is_asked_for():
    made = fitted({"type": "object", "properties": {"text": {"type": "string"}}}, POINT)

    assert len(made["text"].split()) == 5
    assert "causes" in made["text"]


def test_an_enum_is_its_first_value_also_where_a_model_is_named_elsewhere():
    class Kind(Enum):
        A = "a"
        B = "b"

    class Decision(BaseModel):
        kind: Kind
        route: Literal["skeleton", "direct"]
        count: int

    assert fitted(Decision.model_json_schema()) == {"kind": "a", "route": "skeleton", "count": 1}


@pytest.mark.parametrize(
    "text",
    [
        'Plan a skeleton. Reply with JSON only: {"points":["title","title"]}',
        "Plan a skeleton. Reply with JSON only.",
    ],
)
def test_a_skeleton_that_is_asked_for_as_json_is_json(text: str):
    assert json.loads(SkeletonResponder(titles=TITLES)(asked(text)).text) == {"points": TITLES}


def test_a_tool_is_called_until_its_result_is_there():
    responder = SkeletonResponder(titles=TITLES)
    plan = {"type": "function", "function": {"name": "plan", "parameters": {"properties": {"points": STRINGS}}}}
    other = {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}}
    choice = {"type": "function", "function": {"name": "plan"}}
    [call] = responder(asked("Why?", tools=[other, plan], tool_choice=choice)).tool_calls
    result = {"role": "tool", "content": "done", "tool_call_id": "1"}
    after = ChatRequest({"messages": [{"role": "user", "content": "Why?"}, result], "tools": [plan]})

    assert (call.name, json.loads(call.arguments_json)) == ("plan", {"points": TITLES})
    assert responder(after).tool_calls == ()
    assert responder(asked("Why?", tools=[plan], tool_choice="none")).tool_calls == ()


def test_a_responder_needs_points():
    with pytest.raises(SotConfigError):
        SkeletonResponder(0)


def test_one_text_in_place_of_titles_is_refused():
    with pytest.raises(SotConfigError, match="as a list of titles, not 'Seed'"):
        SkeletonResponder(titles="Seed")


def test_a_point_that_broke_off_anywhere_is_gone_on_with_to_the_same_text():
    responder = SkeletonResponder(titles=["Seed", "Soil", "Sun"], words_per_point=30)
    question, options = {"question": "How do plants grow?"}, SotOptions(stream=True)
    with SimulatedEndpoint(responder, physics=Physics.instant()) as endpoint:
        graph = create_sot_graph(endpoint.chat_model(), options=options)
        whole = [expansion["text"] for expansion in graph.invoke(question)["expansions"]]
        for tokens in range(1, 40):
            broken = Fault(HangUp(tokens), match=lambda asked: Ask.of(asked, responder.titles).number == 2, times=1)
            endpoint.faults = [broken]
            texts = [expansion["text"] for expansion in graph.invoke(question)["expansions"]]
            assert broken.hits == 1
            assert texts == whole, f"after {tokens} tokens"


def test_a_request_to_go_on_asks_for_what_the_broken_reply_was_asked_for():
    messages = [*asked(POINT).messages, {"role": "assistant", "content": "Half of"}]
    go_on = {"role": "user", "content": "Your reply broke off. Go on exactly where it ends."}
    assert Ask.of(ChatRequest({"messages": [*messages, go_on]}), TITLES) == Ask("point", 2, "Main causes")
