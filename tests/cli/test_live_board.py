"""What the board of points looks like, and what the review of a skeleton understands."""

import io

import pytest
from rich.console import Console

from sot_graph.cli.ask_command import ReviewAbandonedError, review_on_terminal
from sot_graph.cli.compare_command import figures
from sot_graph.cli.live_board import Board, screen_for
from sot_graph.cli.process import waiting

POINTS = [{"index": 1, "title": "Sun"}, {"index": 2, "title": "Soil"}, {"index": 3, "title": "Rain"}]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def board(clock):
    """One point done, one being written at its second try, one waiting."""
    board = Board(clock=clock)
    board.feed({"type": "sot.skeleton", "points": POINTS, "heads": None, "separator": "", "eager": True})
    clock.now = 1.0
    board.feed({"type": "sot.point.start", "index": 1, "title": "Sun", "attempt": 1})
    board.feed({"type": "sot.point.delta", "index": 1, "text": "Light feeds every leaf, from the first to the last."})
    board.feed({"type": "sot.point.end", "index": 1, "status": "ok", "shown": True, "tail": ""})
    board.feed({"type": "sot.point.start", "index": 2, "title": "Soil", "attempt": 2})
    board.feed({"type": "sot.point.delta", "index": 2, "text": "[red]Roots[/red] hold on."})
    clock.now = 3.0
    return board


def drawn(board, width, height=24):
    console = Console(width=width, height=height, color_system=None, record=True, file=io.StringIO())
    console.print(board)
    return console.export_text()


@pytest.mark.parametrize("width", [120, 80, 40, 20])
def test_the_board_fits_terminals_of_any_width(board, width, snapshot):
    text = drawn(board, width)
    assert all(len(line) <= width for line in text.splitlines())
    assert text == snapshot


def test_a_low_terminal_gets_one_line_a_point(board):
    text = drawn(board, 40, height=7)
    assert "✓ 1. Sun" in text
    assert "writing, try 2" in text
    assert len(text.splitlines()) <= 7


def test_a_low_terminal_shows_the_text_that_is_read_now(clock):
    board = Board(clock=clock)
    board.feed({"type": "sot.skeleton", "points": [{"index": n, "title": f"Point {n}"} for n in range(1, 9)]})
    for index in (2, 1):
        board.feed({"type": "sot.point.start", "index": index, "title": f"Point {index}", "attempt": 1})
        board.feed({"type": "sot.point.delta", "index": index, "text": f"This is text {index}."})
    text = drawn(board, 60, height=20)
    assert "This is text 1." in text
    assert "This is text 2." not in text
    assert all(f"{n}. Point {n}" in text for n in range(1, 9))
    assert len(text.splitlines()) <= 20
    board.feed({"type": "sot.point.end", "index": 1, "status": "ok"})
    assert "This is text 2." in drawn(board, 60, height=20)


def test_ctrl_c_keeps_the_points_that_are_whole_on_the_screen(monkeypatch):
    monkeypatch.delenv("TERM", raising=False)
    console = Console(width=80, height=24, force_terminal=True, color_system=None, file=io.StringIO())
    screen = screen_for(console, stream=True, silent=False)

    def run_until_somebody_leaves():
        screen.feed({"type": "sot.skeleton", "points": POINTS[:2]})
        for index in (1, 2):
            screen.feed({"type": "sot.point.start", "index": index, "title": "", "attempt": 1})
            screen.feed({"type": "sot.point.delta", "index": index, "text": f"Text {index}."})
        screen.feed({"type": "sot.point.end", "index": 1, "status": "ok"})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), screen.watch():
        run_until_somebody_leaves()
    end = console.file.getvalue().rpartition("as far as it goes")[2]
    assert "1. Sun" in end
    assert "Text 1." in end
    assert "Text 2." not in end


def test_what_a_model_writes_is_text_and_never_markup(board):
    assert "[red]Roots[/red]" in drawn(board, 120)


def test_what_frames_the_points_stands_around_them_and_is_no_point(board):
    board.feed({"type": "sot.frame.start", "part": "conclusion", "attempt": 1})
    board.feed({"type": "sot.frame.delta", "part": "conclusion", "text": "So they grow."})
    board.feed({"type": "sot.frame.start", "part": "introduction", "attempt": 2})
    text = drawn(board, 40, height=60)
    names = ["✎ Introduction", "✓ 1. Sun", "3. Rain", "✎ Conclusion"]
    assert sorted(names, key=text.index) == names
    assert "So they grow." in text
    assert "1 of 3 points" in board.summary
    board.feed({"type": "sot.frame.end", "part": "conclusion", "status": "timed_out", "tail": ""})
    assert "⏱ Conclusion" in drawn(board, 40, height=60)


def test_an_introduction_has_its_place_as_soon_as_the_skeleton_tells_of_it(clock):
    board = Board(clock=clock)
    board.feed({"type": "sot.skeleton.delta", "point": POINTS[0], "introduction": True})
    assert "· Introduction" in drawn(board, 80)


def test_the_summary_tells_time_progress_and_speed(board):
    assert board.summary == "  3.0 s  1 of 3 points  about 10 tokens/s"


def result(*statuses, calls=None, tokens=100, frame=()):
    expansions = [{"status": status} for status in statuses]
    nothing = {"calls": 0, "output_tokens": 0}
    written = {"calls": len(expansions) if calls is None else calls, "output_tokens": tokens}
    usage = {"route": {"calls": 1, "output_tokens": 9}, "skeleton": {"calls": 1, "output_tokens": 50}}
    usage |= {"expansion": nothing, "frame": nothing, "direct": nothing}
    usage |= {"expansion" if expansions else "direct": written}
    return {"expansions": expansions, "frame": {part: {"status": "ok"} for part in frame}, "usage": usage}


def test_the_speed_at_the_end_is_of_the_tokens_that_the_provider_reports_for_the_texts(board, clock):
    board.feed({"type": "sot.answer", "answer": "..."})
    clock.now = 9.0  # the answer has been drawn meanwhile
    board.finish(result("ok", "ok", "ok"))
    assert board.summary == "  3.0 s  1 of 3 points  50 tokens/s"


def test_of_a_direct_answer_too(clock):
    board = Board(clock=clock)
    board.feed({"type": "sot.answer.delta", "text": "I talk."})
    clock.now = 4.0
    board.feed({"type": "sot.answer", "answer": "I talk."})
    board.finish(result(calls=1))
    assert board.summary == "  4.0 s  25 tokens/s"


@pytest.mark.parametrize(
    "told",
    [
        result("ok", "ok", "ok", tokens=0),
        result("ok", "timed_out", "ok"),
        result("ok", "ok", "ok", calls=4),
        result("ok", "ok", "ok", frame=["introduction"]),
    ],
    ids=["nothing reported", "a late point", "a call that broke off", "a call less than texts"],
)
def test_where_not_all_tokens_are_reported_the_speed_stays_an_estimate(board, told):
    board.finish(told)
    assert board.summary.endswith("about 10 tokens/s")


def test_before_the_skeleton_the_board_says_what_is_done(clock):
    assert "drafting the skeleton" in drawn(Board(clock=clock), 80)


def test_once_it_is_known_that_there_is_none_no_skeleton_is_said_to_be_drafted(clock):
    board = Board(clock=clock)
    board.feed({"type": "sot.route", "route": "skeleton", "reason": "", "confidence": None})
    assert "drafting the skeleton" in drawn(board, 80)
    board.feed({"type": "sot.route", "route": "direct", "reason": "", "confidence": None})
    assert "drafting" not in drawn(board, 80)


def test_a_direct_answer_is_shown_as_it_is_written(clock):
    board = Board(clock=clock)
    board.feed({"type": "sot.answer.delta", "text": "I just "})
    board.feed({"type": "sot.answer.delta", "text": "talk."})
    assert "I just talk." in drawn(board, 80)


def test_an_event_of_a_points_tool_changes_nothing(board):
    before = board.points[1].state
    board.feed({"type": "sot.point.tool", "index": 1, "title": "A", "name": "search"})
    assert board.points[1].state == before


def test_a_point_that_a_token_limit_cut_off_is_done_and_says_so(board):
    board.feed({"type": "sot.point.end", "index": 2, "status": "ok", "truncated": True, "shown": True, "tail": ""})
    assert "cut off" in drawn(board, 80)
    assert "2 of 3 points" in board.summary


def test_points_that_failed_or_were_late_are_told_by_more_than_their_colour(board):
    board.feed({"type": "sot.point.end", "index": 2, "status": "timed_out", "shown": True, "tail": ""})
    board.feed({"type": "sot.point.end", "index": 3, "status": "failed", "shown": True, "tail": ""})
    text = drawn(board, 120)
    assert "late" in text
    assert "failed" in text


def compared(direct, skeleton):
    console = Console(width=100, color_system=None, file=io.StringIO())
    console.print(figures(direct, skeleton))
    return {line[:28].strip(): line[28:].split() for line in console.file.getvalue().splitlines()}


def test_a_comparison_gives_the_figures_of_both_ways_and_their_ratio():
    rows = compared(
        {"first_word": 0.5, "seconds": 8.0, "input_tokens": 40, "output_tokens": 400, "calls": 1},
        {"first_word": 1.0, "seconds": 2.0, "input_tokens": 800, "output_tokens": 500, "calls": 9},
    )
    assert rows["whole answer, s"] == ["8.00", "2.00", "4.00"]
    assert rows["tokens out"] == ["400", "500", "0.80"]
    assert rows["seconds a token out"] == ["0.0200", "0.0040", "5.00"]


def test_a_comparison_says_nothing_of_tokens_that_nobody_reported():
    rows = compared({"seconds": 8.0, "calls": 1}, {"seconds": 2.0, "calls": 9})
    assert rows["tokens in"] == rows["tokens out"] == rows["seconds a token out"] == ["-", "-"]
    assert rows["whole answer, s"] == ["8.00", "2.00", "4.00"]


def waited_for(*, terminal, **how):
    console = Console(width=80, color_system=None, force_terminal=terminal, file=io.StringIO())
    with waiting(console, "Loading the model", **how):
        pass
    return console.file.getvalue()


def test_on_a_terminal_a_clock_runs_while_something_is_waited_for_and_is_gone_afterwards(monkeypatch):
    monkeypatch.delenv("TERM", raising=False)
    shown = waited_for(terminal=True)
    assert "Loading the model 0:00:00" in shown
    assert shown.endswith("\x1b[2K")  # its line is cleared


def test_in_a_pipe_what_is_waited_for_is_said_once_or_not_at_all():
    assert waited_for(terminal=False) == "Loading the model ...\n"
    assert waited_for(terminal=False, in_pipe=False) == ""


def review(*lines):
    remaining = list(lines)

    def read(_prompt):
        if not remaining:
            raise EOFError
        return remaining.pop(0)

    shown = []
    return review_on_terminal(POINTS, read=read, show=shown.append), shown


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ([""], True),
        (["yes"], True),
        (["e 2 Good soil", ""], ["Sun", "Good soil", "Rain"]),
        (["a Wind", ""], ["Sun", "Soil", "Rain", "Wind"]),
        (["d 1", ""], ["Soil", "Rain"]),
        (["m 3 1", ""], ["Rain", "Sun", "Soil"]),
        (["r too dull"], {"reject": "too dull"}),
        (["d 1", "a Sun", "m 3 1", ""], True),
    ],
)
def test_a_review_understands_its_commands(lines, verdict):
    assert review(*lines)[0] == verdict


@pytest.mark.parametrize(("line", "number"), [("d 9", 9), ("e 4 More", 4), ("m 1 5", 5), ("m 0 2", 0)])
def test_a_review_says_that_there_is_no_such_point(line, number):
    verdict, shown = review(line, "")
    assert verdict is True
    assert f"There is no point {number}: the skeleton has 3." in shown


@pytest.mark.parametrize("line", ["x", "d zero", "e 1", "m 1", "a", "r"])
def test_what_a_review_does_not_understand_it_says_and_asks_again(line):
    verdict, shown = review(line, "")
    assert verdict is True
    assert any("not understood" in text for text in shown)


def test_a_skeleton_never_loses_its_last_point():
    verdict, _ = review("d 1", "d 1", "d 1", "")
    assert verdict == ["Rain"]


@pytest.mark.parametrize("lines", [["q"], []])
def test_a_review_can_be_left(lines):
    with pytest.raises(ReviewAbandonedError):
        review(*lines)
