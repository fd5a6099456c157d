"""Joins: from expansions to one answer."""

import copy
from typing import Any

import pytest

from sot_graph import create_sot_graph, stream_answer
from sot_graph.errors import SotConfigError
from sot_graph.joiners import (
    PointwiseJoin,
    join_answer,
    join_headings,
    join_markdown,
    join_plain,
    shown_expansions,
)
from sot_graph.skeleton.points import given_points
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought
from sot_graph.types import Expansion

QUESTION = "Why?"
SKELETON = given_points(["Alpha", "Beta"])


def expansion(index: int, title: str, text: str = "", status: Any = "ok") -> Expansion:
    return Expansion(index=index, title=title, text=text, status=status, error=None if status == "ok" else "secret")


BOTH = [expansion(1, "Alpha", "First."), expansion(2, "Beta", "Second.")]


@pytest.mark.parametrize(
    ("join", "answer"),
    [
        (join_markdown, "**1. Alpha**\n\nFirst.\n\n**2. Beta**\n\nSecond."),
        (join_plain, "1. Alpha: First.\n2. Beta: Second."),
        (join_headings, "## Alpha\n\nFirst.\n\n## Beta\n\nSecond."),
    ],
)
def test_the_three_joins(join: PointwiseJoin, answer: str):
    assert join(QUESTION, SKELETON, BOTH) == answer
    assert join_answer(join, QUESTION, SKELETON, BOTH, "mark") == (answer, [], 0)


def test_no_expansions_make_an_empty_answer():
    assert join_markdown(QUESTION, [], []) == ""


def test_a_join_of_ones_own_is_made_of_a_head_and_a_separator():
    join = PointwiseJoin(head="[{index}/{title}] ", separator=" | ")
    assert join(QUESTION, SKELETON, BOTH) == "[1/Alpha] First. | [2/Beta] Second."


@pytest.mark.parametrize("tricky", ["{index}", "{title}", "{text}", "{", "}", "{{}}", "{0}", "%s", "\\1"])
def test_braces_in_titles_and_texts_are_data(tricky: str):
    point = expansion(1, f"a {tricky}", f"b {tricky}")
    assert join_plain(QUESTION, [], [point]) == f"1. a {tricky}: b {tricky}"


@pytest.mark.parametrize(
    ("status", "text", "answer"),
    [
        ("failed", "", "1. Alpha: *(This point is missing: it could not be written.)*"),
        ("timed_out", "", "1. Alpha: *(This point is missing: it was not finished in time.)*"),
        ("failed", "Half a", "1. Alpha: Half a … *(This point breaks off here.)*"),
        ("timed_out", "Half a", "1. Alpha: Half a … *(This point breaks off here.)*"),
        ("ok", "", "1. Alpha: "),
    ],
)
def test_a_point_that_is_not_ok_is_marked_in_its_place(status: str, text: str, answer: str):
    assert join_plain(QUESTION, [], [expansion(1, "Alpha", text, status)]) == answer


def test_the_error_of_a_point_never_stands_in_the_answer():
    for join in (join_markdown, join_plain, join_headings):
        assert "secret" not in join(QUESTION, [], [expansion(1, "Alpha", "", "failed")])


@pytest.mark.parametrize("mode", ["mark", "raise"])
def test_every_point_is_shown_unless_skipping(mode: Any):
    failed = expansion(1, "Alpha", "", "failed")
    assert shown_expansions([failed], mode) == [failed]


def test_skipping_leaves_out_points_without_any_text_and_marks_those_with_some():
    points = [
        expansion(1, "Alpha", "", "failed"),
        expansion(2, "Beta", "Half", "timed_out"),
        expansion(3, "Gamma", "Whole."),
    ]
    answer, *_ = join_answer(join_plain, QUESTION, SKELETON, points, "skip")
    assert answer == "2. Beta: Half … *(This point breaks off here.)*\n3. Gamma: Whole."


def test_any_callable_is_a_join_and_gets_question_skeleton_and_expansions():
    def join(*args: Any) -> str:
        return repr(args)

    assert join_answer(join, QUESTION, SKELETON, BOTH, "mark")[0] == repr((QUESTION, SKELETON, BOTH))


@pytest.mark.parametrize("result", [None, 5, b"answer", ["answer"]])
def test_a_join_that_gives_no_string_is_refused(result: Any):
    with pytest.raises(SotConfigError, match=f"The join returned {type(result).__name__}"):
        join_answer(lambda *_: result, QUESTION, SKELETON, BOTH, "mark")


def test_a_join_that_can_not_give_a_string_is_refused_before_anything_is_paid_for():
    async def later(question, skeleton, expansions):
        return ""

    def pieces(question, skeleton, expansions):
        yield ""

    class Later:
        async def __call__(self, question, skeleton, expansions):
            return ""

    for join in (later, pieces, Later()):
        with pytest.raises(SotConfigError, match="join is asynchronous, or a generator"):
            create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought()), join=join)


def test_an_error_in_a_custom_join_comes_out_as_it_is():
    def join(*_: Any) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        join_answer(join, QUESTION, SKELETON, BOTH, "mark")


def test_what_a_join_does_to_its_arguments_changes_no_result():
    def join(question: str, skeleton: Any, expansions: Any) -> str:
        for point in skeleton:
            point["depends_on"].append(7)
        for written in expansions:
            written["text"] = "changed"
        skeleton.clear()
        expansions.clear()
        return "joined"

    skeleton, expansions = copy.deepcopy((SKELETON, BOTH))
    assert join_answer(join, QUESTION, skeleton, expansions, "mark") == ("joined", [], 0)
    assert (skeleton, expansions) == (SKELETON, BOTH)


@pytest.mark.parametrize("wrong", [{"head": 5}, {"head": "", "separator": None}, {"head": "", "cut": b"x"}])
def test_a_join_is_made_of_strings(wrong: Any):
    with pytest.raises(SotConfigError, match=r"PointwiseJoin: \w+ is \w+; it must be a string"):
        PointwiseJoin(**wrong)


class Numbered(PointwiseJoin):
    """Joins in a way of its own."""

    def join_points(self, expansions):
        return f"{len(expansions)} points.\n\n" + super().join_points(expansions)


def test_a_subclass_that_joins_in_its_own_way_is_streamed_as_any_function_is():
    model = ScriptedChatModel(answer_skeleton_of_thought(["Seed", "Soil", "Sun"], "About {title}."))
    graph = create_sot_graph(model, join=Numbered(head="{title}: "))
    answer = graph.invoke({"question": "How do plants grow?"})["answer"]
    assert answer.startswith("3 points.\n\nSeed: About Seed.")
    assert "".join(stream_answer(graph, {"question": "How do plants grow?"})) == answer
