"""Thoughts in a reply's text: taken out, whatever the pieces that it comes in."""

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from langchain_core.messages import AIMessage

from sot_graph.llm.reply import Reply
from sot_graph.llm.thoughts import ThoughtFilter, ends_unopened_thought

TEXT = "1. Light\n2. Water <b>"
OPENED = {
    "think": f"<think>\n1. Hm.\n2. So.\n</think>\n\n{TEXT}",
    "capitals": f"<Think>Hm.</THINK>{TEXT}",
    "thinking": f"\n<thinking>Hm.</thinking>\n{TEXT}",
    "twice": f"<think>Hm.</think>\n<think>So.</think>{TEXT}",
    "empty": f"<think>\n\n</think>\n\n{TEXT}",
    "magistral": f"[THINK]Hm.[/THINK]{TEXT}",
    "kimi": f"◁think▷Hm.◁/think▷{TEXT}",
    "cohere": f"<|START_THINKING|>Hm.<|END_THINKING|>{TEXT}",
    "closing tag first": f"</think>\n{TEXT}",
    "gpt-oss": f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{TEXT}",
    "gpt-oss with its ends": (
        "<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final "
        f"<|constrain|>json<|message|>{TEXT}<|return|>"
    ),
    "gpt-oss without thoughts": f"<|channel|>final<|message|>{TEXT}<|return|>",
    "gpt-oss without its marks": f"analysisWe need to list.assistantfinal{TEXT}",
}
UNOPENED = f"Okay, so the user wants plants.\n1. Hm.\n</think>\n\n{TEXT}"
PLAIN = {
    "list": TEXT,
    "words that begin alike": "<b>Light</b> and analysis",
    "white space": "\n\n  Light.\n",
    "a text about tags": "Models write <think>...</think> before their text. A lone `</think>` ends it.",
    "a text about a tag": "The tag `</think>` ends a thought.",
    "nothing": "",
    "half a tag": "<thi",
    "a word that goes on": "analysises of light",
    "the word alone": "analysis",
    "the word, and Chinese": "analysis这个词的意思是分析。",
    "the word and a number": "analysis1",
}
UNCLOSED = ["<think>", "<think>1. Hm.\n2. So", "<|channel|>analysis<|message|>Hm.<|end|>", "[THINK]Hm.[/THI"]


def without_thoughts(text):
    thoughts = ThoughtFilter(unopened=True)
    return thoughts.feed(text) + thoughts.finish()


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(places)]


def filtered(parts: list[str], **kwargs) -> str:
    thoughts = ThoughtFilter(**kwargs)
    return "".join(map(thoughts.feed, parts)) + thoughts.finish()


@pytest.mark.parametrize("reply", OPENED.values(), ids=OPENED)
@pytest.mark.parametrize("unopened", [None, False, True])
@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 400), max_size=40))
def test_a_thought_is_taken_out_whatever_the_pieces(reply: str, unopened: bool | None, cuts: list[int]):
    assert filtered(pieces(reply, cuts), unopened=unopened) == TEXT
    assert filtered(list(reply), unopened=unopened) == TEXT


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("unopened", [None, False, True])
@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 400), max_size=40))
def test_a_text_without_thoughts_stays_as_it_is(text: str, unopened: bool | None, cuts: list[int]):
    assert filtered(pieces(text, cuts), unopened=unopened) == text
    assert filtered(pieces(text, cuts), unopened=unopened, expects_structure=True) == text


@pytest.mark.parametrize(
    "kwargs", [{"unopened": True}, {"unopened": None}, {"unopened": None, "expects_structure": True}]
)
@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 400), max_size=40))
def test_one_whose_opening_tag_stood_in_the_prompt_is_held_back_until_it_is_known(kwargs, cuts: list[int]):
    thoughts = ThoughtFilter(**kwargs)
    assert "".join(map(thoughts.feed, pieces(UNOPENED, cuts))) + thoughts.finish() == TEXT
    assert thoughts.found_unopened
    assert ends_unopened_thought(UNOPENED)
    assert not ends_unopened_thought(PLAIN["a text about tags"])


@pytest.mark.parametrize("reply", UNCLOSED)
def test_a_thought_without_an_end_is_no_text(reply: str):
    thoughts = ThoughtFilter()
    assert "".join(map(thoughts.feed, reply)) + thoughts.finish() == ""
    assert thoughts.is_open
    assert without_thoughts(reply) == ""


@pytest.mark.parametrize("written", [*OPENED.values(), UNOPENED, *PLAIN.values(), *UNCLOSED, "analysis of light"])
def test_a_whole_reply_is_read_as_its_pieces_are(written: str):
    thoughts = ThoughtFilter(unopened=True)
    text = "".join(map(thoughts.feed, written)) + thoughts.finish()
    whole = Reply.of(AIMessage(written))
    assert (whole.text, whole.had_unopened_thought) == (text, thoughts.found_unopened)
    assert (whole.ending == "length") == thoughts.is_open


def test_text_is_not_held_back_longer_than_it_may_be_a_thought():
    thoughts = ThoughtFilter(unopened=None)
    assert thoughts.feed("Light") == "Light"
    assert thoughts.feed(" is") == " is"


def test_an_endless_thought_is_not_kept():
    thoughts = ThoughtFilter()
    for _ in range(1000):
        assert thoughts.feed("<think>Hm. " * 10) == ""
    assert len(thoughts._buffer) < 500


def test_any_number_of_closing_tags_may_stand_at_the_start():
    assert without_thoughts("</think>\n" * 100_000 + TEXT) == TEXT


@pytest.mark.parametrize("unopened", [None, False, True])
@pytest.mark.parametrize(
    "text",
    [
        "Sure! <think>Hm.</think>",
        "Models wrap thoughts in <think> and </think>",
        "Let me explain. Models wrap thoughts in <think> and </think>",
        "See <reasoning>x</reasoning>",
    ],
)
def test_a_text_that_ends_in_a_tag_that_it_has_opened_stays_as_it_is(text: str, unopened: bool | None):
    assert filtered([text], unopened=unopened) == text
    assert filtered(list(text), unopened=unopened) == text
