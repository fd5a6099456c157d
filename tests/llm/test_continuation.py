"""Where a continuation repeats the end of what it continues, and whether a space is missing before it."""

import re

import pytest
from hypothesis import given, strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from sot_graph.llm.call import BrokenStreamError, ModelCall, _continuation, _overlap, go_on
from sot_graph.llm.loop_bound_model import LoopModel
from sot_graph.testing import ScriptedChatModel


@pytest.mark.parametrize(
    ("written", "continued", "overlap"),
    [
        ("Plan your day", "your day with care", 8),
        ("Plan your day", " with care", 0),
        ("Plan your strate", "strategy", 6),
        ("Plan your day", "Plan your day", 13),
        ("Plan your day", "Plan your day with care", 13),
        ("", "text", 0),
        ("text", "", 0),
        ("ab", "ab", 2),
        ("The so", "soil is", 2),
        ("by 20", "2024", 2),
        ("stored in a box, and in", "information systems", 0),
        ("a path", "and", 0),
        ("the abab", "abab abab", 4),
    ],
)
def test_the_longest_repetition_is_found(written: str, continued: str, overlap: int):
    assert _overlap(written, continued) == overlap


@pytest.mark.parametrize(
    ("written", "continued", "space"),
    [
        ("Plan your", "day", " "),
        ("计划", "一天", ""),
        ("วางแผน", "วันของคุณ", ""),
        ("ဘဝ", "နေ့", ""),  # Burmese
        ("ភាសាខ្មែរ", "ថ្ងៃ", ""),  # Khmer
        ("Планируй", "день", " "),
    ],
)
def test_a_space_is_put_between_words_only_where_a_script_has_them(written: str, continued: str, space: str):
    assert _continuation(written, continued) == space + continued


async def test_what_was_put_into_the_models_mouth_and_what_it_wrote_are_one_turn(make_run):
    model = ScriptedChatModel(lambda _: "and water.")
    call = ModelCall(LoopModel(model), "expansion", make_run(), {}, {})
    added, _ = await go_on(call, [HumanMessage("Why?"), AIMessage("1. When")], BrokenStreamError(" light comes"))
    assert added == " and water."
    assert [message.text for message in model.calls[0].messages][:2] == ["Why?", "1. When light comes"]


def test_no_more_than_a_paragraph_is_compared():
    assert _overlap("x" * 5000, "x" * 5000) == 200


@given(st.text("ab ", max_size=30), st.text("ab ", max_size=30))
def test_what_is_cut_off_is_what_was_written(written: str, continued: str):
    length = _overlap(written, continued)
    assert 0 <= length <= len(continued)
    # So little counts only as the beginning of the word that broke off.
    assert length > 2 or not length or re.search(r"\w+$", written)[0] == continued[:length]
    assert written.endswith(continued[:length])
