"""Reading order, whatever order the events come in."""

import pytest
from hypothesis import given, strategies as st

from sot_graph import SotConfigError
from sot_graph.joiners import (
    PointwiseJoin,
    frame_tail,
    is_pointwise,
    join_answer,
    join_headings,
    join_markdown,
    join_plain,
    shown_expansions,
)
from sot_graph.streaming import AnswerReader


def whole_and_mine(question, skeleton, expansions):
    """A join of a user's own, which needs all points."""
    return " / ".join(expansion["text"] for expansion in reversed(expansions))


def drawn_part(draw, name, join):
    """A part of the frame, or none, and its events."""
    if draw(st.booleans()):
        return None, []
    status = draw(st.sampled_from(["ok", "failed", "timed_out"]))
    pieces = draw(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=4), max_size=3))
    part = {"text": "".join(pieces), "status": status, "error": None}
    start = {"type": "sot.frame.start", "part": name, "attempt": 1}
    deltas = [{"type": "sot.frame.delta", "part": name, "text": piece} for piece in pieces]
    end = {"type": "sot.frame.end", "part": name, "status": status, "tail": frame_tail(join, part)}
    return part, [start, *deltas, end]


@st.composite
def runs(draw):
    """A run's events in a random interleaving, and the answer that its join makes."""
    join = draw(
        st.sampled_from(
            [join_markdown, join_plain, join_headings, PointwiseJoin(head="", separator=""), whole_and_mine]
        )
    )
    on_point_failure = draw(st.sampled_from(["mark", "skip", "raise"]))
    count = draw(st.integers(1, 6))
    points = [{"index": index, "title": f"T{index}", "depends_on": []} for index in range(1, count + 1)]
    expansions, queues = [], []
    for point in points:
        status = draw(st.sampled_from(["ok", "ok", "failed", "timed_out"]))
        pieces = draw(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=4), max_size=5))
        if status == "ok" and not pieces:
            pieces = ["text"]
        expansion = {**point, "text": "".join(pieces), "status": status, "error": None}
        end = {
            "type": "sot.point.end",
            "index": point["index"],
            "status": status,
            "shown": bool(shown_expansions([expansion], on_point_failure)),
            "tail": join.tail_of(expansion) if status != "ok" and isinstance(join, PointwiseJoin) else "",
        }
        start = {"type": "sot.point.start", "index": point["index"], "title": point["title"], "attempt": 1}
        deltas = [{"type": "sot.point.delta", "index": point["index"], "text": piece} for piece in pieces]
        expansions.append(expansion)
        queues.append([start, *deltas, end])
    heads, separator = None, ""
    if is_pointwise(join):
        heads, separator = [join.head_of(point) for point in points], join.separator
    introduction, introducing = drawn_part(draw, "introduction", join)
    conclusion, concluding = drawn_part(draw, "conclusion", join)
    frame = {"introduction": introduction, "conclusion": conclusion}
    layout = {
        "separator": separator,
        "eager": on_point_failure != "skip",
        "introduction": introduction is not None,
    }
    events = []
    grown = draw(st.booleans())
    settled = [{"type": "sot.skeleton", "points": points, "heads": heads, "grown": grown, **layout}]
    if grown:  # each point is told of when its title is there, and others may be written by then
        for point, queue in zip(points, queues, strict=True):
            head = heads and heads[point["index"] - 1]
            queue.insert(0, {"type": "sot.skeleton.delta", "point": point, "head": head, **layout})
    else:
        events.append(settled.pop())
        queues.append(introducing)
    while any(queues):
        told = [event["point"]["index"] for event in events if event["type"] == "sot.skeleton.delta"]
        ready = [
            queue for place, queue in enumerate(queues) if queue and (place <= len(told) or "point" not in queue[0])
        ]
        queue = draw(st.sampled_from(ready))
        events.append(queue.pop(0))
        if settled and all("point" not in event for queue in queues for event in queue):
            events.append(settled.pop())
            queues.append(introducing)
    events += concluding
    answer = join_answer(join, "?", points, expansions, on_point_failure, frame=frame).text
    events.append({"type": "sot.answer", "answer": answer})
    return events, answer, join


@given(runs())
def test_the_chunks_joined_are_exactly_the_answer(run):
    events, answer, _ = run
    reader = AnswerReader()
    assert "".join(reader.feed(event) for event in events) == answer
    assert reader.finished


@given(runs(), st.data())
def test_events_that_were_never_sent_are_made_up_for_at_the_end(run, data):
    """On a resumed run, what had finished before sends nothing."""
    events, answer, _ = run
    first = data.draw(st.integers(0, len(events) - 1))
    texts = {(event.get("index"), event.get("part")) for event in events} - {(None, None)}
    silent = {text for text in sorted(texts, key=str) if data.draw(st.booleans())}
    kept = [event for event in events[first:] if (event.get("index"), event.get("part")) not in silent]
    reader = AnswerReader()
    assert "".join(reader.feed(event) for event in kept) == answer


@given(runs())
def test_a_join_that_needs_all_points_comes_as_one_chunk_at_the_end(run):
    events, answer, join = run
    if join is not whole_and_mine:
        return
    reader = AnswerReader()
    introduction = "".join(reader.feed(event) for event in events[:-1])
    told = [event for event in events if event.get("part") == "introduction"]
    assert introduction == "".join(event.get("text", "") + event.get("tail", "") for event in told)
    assert reader.feed(events[-1]) == answer.removeprefix(introduction)


def test_the_first_head_comes_with_the_skeleton_and_the_first_points_text_as_it_is_written():
    reader = AnswerReader()
    points = [{"index": index, "title": "T", "depends_on": []} for index in (1, 2)]
    skeleton = {"type": "sot.skeleton", "points": points, "heads": ["1: ", "2: "], "separator": "\n", "eager": True}
    assert reader.feed(skeleton) == "1: "
    assert reader.feed({"type": "sot.point.delta", "index": 2, "text": "later"}) == ""
    assert reader.feed({"type": "sot.point.delta", "index": 1, "text": "no"}) == "no"
    assert reader.feed({"type": "sot.point.delta", "index": 1, "text": "w"}) == "w"
    end = {"type": "sot.point.end", "index": 1, "status": "ok", "shown": True, "tail": ""}
    assert reader.feed(end) == "\n2: later"


def test_points_that_become_readable_together_keep_their_separators():
    """The first point turns out to be left out when the two after it are whole already."""
    reader = AnswerReader()
    points = [{"index": index, "title": "T", "depends_on": []} for index in (1, 2, 3)]
    heads = ["1: ", "2: ", "3: "]
    reader.feed({"type": "sot.skeleton", "points": points, "heads": heads, "separator": " / ", "eager": False})
    for index in (2, 3):
        reader.feed({"type": "sot.point.delta", "index": index, "text": "text"})
        reader.feed({"type": "sot.point.end", "index": index, "status": "ok", "shown": True, "tail": ""})
    end = {"type": "sot.point.end", "index": 1, "status": "failed", "shown": False, "tail": ""}
    assert reader.feed(end) == "2: text / 3: text"


def test_the_introduction_flows_while_points_wait_and_the_conclusion_after_them():
    reader = AnswerReader()
    points = [{"index": 1, "title": "T", "depends_on": []}]
    layout = {"heads": ["1: "], "separator": "\n", "eager": True, "introduction": True}
    assert reader.feed({"type": "sot.skeleton", "points": points, **layout}) == ""
    assert reader.feed({"type": "sot.point.delta", "index": 1, "text": "text"}) == ""
    assert reader.feed({"type": "sot.frame.delta", "part": "introduction", "text": "Here"}) == "Here"
    end = {"type": "sot.frame.end", "part": "introduction", "status": "ok", "tail": ""}
    assert reader.feed(end) == "\n\n1: text"
    assert reader.feed({"type": "sot.point.end", "index": 1, "status": "ok", "shown": True, "tail": ""}) == ""
    assert reader.feed({"type": "sot.frame.delta", "part": "conclusion", "text": "So"}) == "\n\nSo"
    assert reader.feed({"type": "sot.frame.delta", "part": "conclusion", "text": "."}) == "."


def events_of(answer_id, title):
    """The events of an answer of one point, as a run sends them."""
    points = [{"index": 1, "title": title, "depends_on": []}]
    layout = {"heads": [f"{title}: "], "separator": " ", "eager": True}
    yield {"type": "sot.skeleton", "points": points, "id": f"{answer_id}:answer", **layout}
    yield {"type": "sot.point.delta", "index": 1, "text": "text", "id": f"{answer_id}:1"}
    yield {"type": "sot.answer", "answer": f"{title}: text", "id": f"{answer_id}:answer"}


@pytest.mark.parametrize("event", ["text", None, 7, ["sot.answer"], {"mine": 1}, {"type": None}, {"type": "mine"}])
def test_what_others_send_says_nothing(event):
    reader = AnswerReader()
    assert [reader.feed(event), reader.has_begun] == ["", False]
    assert "".join(text for one in events_of("1", "A") for text in (reader.feed(one), reader.feed(event))) == "A: text"


def test_a_next_answer_is_read_anew_behind_a_blank_line():
    reader = AnswerReader()
    first, second = list(events_of("1", "A")), list(events_of("2", "B"))
    assert "".join(map(reader.feed, first)) == "A: text"
    assert [reader.feed(event) for event in second] == ["\n\nB: ", "text", ""]
    assert (reader.finished, reader.text, reader.answer_id) == (True, "B: text", "2")


def test_an_answer_that_fails_is_followed_by_the_next_one():
    reader = AnswerReader()
    events = [*list(events_of("1", "A"))[:1], *events_of("2", "B")]
    assert "".join(map(reader.feed, events)) == "A: \n\nB: text"


def test_an_answer_without_a_text_leaves_no_blank_line():
    reader = AnswerReader()
    reader.feed({"type": "sot.route", "route": "skeleton", "reason": "", "confidence": None, "id": "1:answer"})
    assert "".join(map(reader.feed, events_of("2", "B"))) == "B: text"


def test_two_answers_at_once_are_refused():
    reader = AnswerReader()
    (first, goes_on, _), (second, *_) = events_of("1", "A"), events_of("2", "B")
    reader.feed(first)
    reader.feed(second)
    with pytest.raises(SotConfigError, match="Two answers come at once"):
        reader.feed(goes_on)
