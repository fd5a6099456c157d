"""Titles are read as soon as they are whole, whatever pieces a reply comes in."""
# ruff: noqa: RUF001

import json

import pytest
from hypothesis import given, strategies as st

from sot_graph.skeleton.parser import TitleScanner, parse_skeleton
from sot_graph.skeleton.points import EarlyPoints, EnoughError, PointSieve, given_points, split_needs

TITLES = ["Light", 'Say "hi", then [stop]', "Wasser \\ Luft", "光合成"]


def fed(text, size=1):
    scanner = TitleScanner()
    return [title for start in range(0, len(text), size) for title in scanner.feed(text[start : start + size])]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"points": TITLES}),
        json.dumps({"points": TITLES}, ensure_ascii=False, separators=(",", ":")),
        json.dumps({"points": [{"title": title} for title in TITLES]}, indent=2),
        json.dumps(TITLES),
        "```json\n" + json.dumps({"points": TITLES}) + "\n```",
        "Here you are:\n\n" + "".join(f"{number}. {title}\n   - a detail\n" for number, title in enumerate(TITLES, 1)),
    ],
)
def test_each_title_comes_once_and_in_order(text, size):
    assert [title.strip() for title in fed(text, size)] == TITLES


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "before",
    [
        {"thoughts": ["I plan it", "Then I list"]},
        {"language": "en", "count": 12, "sure": True, "notes": None},
        {"about": {"points": ["Not these"]}, "say": 'a [ b { "points": ['},
        {"points": "of the answer"},
    ],
    ids=str,
)
def test_what_stands_before_the_points_is_no_title(before, size):
    text = json.dumps(before)[:-1] + ', "points": ' + json.dumps(TITLES) + "}"
    assert fed(text, size) == TITLES
    assert fed("```json\n" + text, size) == TITLES


@pytest.mark.parametrize(
    "text", ['{"titles": ["A", "B"]}', '{"a": {"points": ["A"]}}', '{"a": ["A"], nonsense', "```\n"]
)
def test_a_list_under_another_name_is_for_the_whole_replys_reader(text):
    assert fed(text) == []


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "mark",
    ["①②③④", "（一） （二） （三） （四）", "第一， 第二， 第三， 第四，", "\u200f1. \u200f2. \u200f3. \u200f4."],
)
def test_lines_are_numbered_in_many_scripts(mark, size):
    marks = mark.split() if " " in mark else mark
    text = "".join(f"{number} {title}\n" for number, title in zip(marks, TITLES, strict=True))
    assert [title.strip() for title in fed(text, size)] == TITLES


def test_a_title_comes_with_the_piece_that_closes_it():
    scanner = TitleScanner()
    assert scanner.feed('{"points": ["Li') == []
    assert scanner.feed('ght"') == ["Light"]
    assert scanner.feed(', "Wat') == []
    scanner = TitleScanner()
    assert scanner.feed("1. Light") == []
    assert scanner.feed("\n2. Wat") == [" Light"]


def test_an_objects_title_comes_when_the_object_is_closed():
    scanner = TitleScanner()
    assert scanner.feed('[{"title": "Light"') == []
    assert scanner.feed(', "why": "it is food"') == []
    assert scanner.feed("}") == ["Light"]
    assert scanner.feed(', {"title": "Water"') == []


@pytest.mark.parametrize("before", ["", '{"points": ["A", ', "1. A\n"])
def test_a_reply_that_goes_on_without_a_title_is_for_the_whole_replys_reader(before):
    scanner = TitleScanner()
    scanner.feed(before)
    assert scanner.feed(f'"{"x" * 2500}') == []
    assert scanner.unread > 2000
    assert scanner.feed('", "B"]}\n2. B\n3. C\n') == []


def collected(known=(), most=3):
    given = []
    return EarlyPoints(PointSieve, most, lambda point: given.append(point["title"]), list(known)), given


def test_points_are_given_out_once_over_several_replies_and_numbered_on():
    points, given = collected()
    points.begin_reply("")
    points.feed('{"points": ["A", "B"')
    points.begin_reply("")
    points.feed('{"points": ["B", "C"]}')
    points.finish_reply(["B", "C", "D"])
    assert given == ["A", "B", "C"]
    assert [point["index"] for point in points.points] == [1, 2, 3]
    assert points.has_too_many


def test_a_reply_is_closed_at_its_first_title_too_many():
    points, given = collected(most=2)
    points.begin_reply("")
    with pytest.raises(EnoughError):
        points.feed('["A", "B", "C"')
    assert given == ["A", "B"]


@pytest.mark.parametrize("reply", ["1. A\n2. B\n", " A\n2. B\n"])
def test_a_prefill_is_read_once_whether_the_server_repeats_it_or_not(reply):
    points, given = collected()
    points.begin_reply("1.")
    for piece in reply:
        points.feed(piece)
    assert given == ["A", "B"]


def test_a_whole_skeleton_is_taken_over_only_where_it_begins_with_what_was_given_out():
    known = given_points(["A"])
    points, given = collected(known)
    assert not points.take_over(given_points(["B", "C"]))
    assert points.take_over(given_points(["A", "C"]))
    assert given == ["C"]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=8), st.integers(1, 12))
def test_json_is_read_like_the_whole_reply(titles, size):
    text = json.dumps({"points": titles})
    assert fed(text, size) == titles


@given(st.text(max_size=400), st.integers(1, 40))
def test_no_text_is_a_problem(text, size):
    for piece in fed(text, size):
        assert isinstance(piece, str)


@given(st.lists(st.from_regex(r"[A-Z][a-z]{2,10}", fullmatch=True), min_size=2, max_size=8), st.integers(1, 9))
def test_a_numbered_list_is_read_like_the_whole_reply(titles, size):
    text = "".join(f"{number}. {title}\n" for number, title in enumerate(titles, 1))
    assert fed(text, size) == parse_skeleton(text)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Compare them (needs 1, 2)", ("Compare them", [1, 2])),
        ("Dach (braucht 1-3, 5)", ("Dach", [1, 2, 3, 5])),
        ("屋顶（需要 1、2）", ("屋顶", [1, 2])),
        ("屋顶（需要第1点和第2点）", ("屋顶", [1, 2])),
        ("Le toit (nécessite 1 et 2)", ("Le toit", [1, 2])),
        ("Il tetto (richiede 1 e 3 to 2)", ("Il tetto", [1, 2, 3])),
        ("Europe (after 1945-1989)", ("Europe (after 1945-1989)", [])),
        ("Compare them (need 1 and 2).", ("Compare them", [1, 2])),
        ("Compare them [depends on points 1, 2]", ("Compare them", [1, 2])),
        ("Compare them (needs: none)", ("Compare them", [])),
        ("墙（needs 1）", ("墙", [1])),
        ("墙（needs：1，2）。", ("墙", [1, 2])),
        ("屋顶 (needs 1、2)", ("屋顶", [1, 2])),
        ("السقف (needs ١، ٢)", ("السقف", [1, 2])),
        ("Compare them", ("Compare them", [])),
        ("What a plant (needs light)", ("What a plant (needs light)", [])),
        ("Costs (about 10)", ("Costs (about 10)", [])),
        (f"Costs (needs {'1' * 90}x", (f"Costs (needs {'1' * 90}x", [])),
    ],
)
def test_a_title_says_what_it_needs_behind_it(raw, expected):
    assert split_needs(raw) == expected


def needs_of(*raw):
    sieve = PointSieve(depends=True)
    for item in raw:
        sieve.take(item)
    return {point["title"]: point["depends_on"] for point in sieve.points}


def test_a_number_is_the_place_in_the_models_own_list():
    assert needs_of("A one", "B two (needs 1)", "", "A one", "C three (needs 2, 4)") == {
        "A one": [],
        "B two": [1],
        "C three": [2],
    }


def test_itself_what_comes_later_and_what_there_is_not_are_left_out_and_logged(caplog):
    assert needs_of("A (needs 1)", "B (needs 3, 1)", "C (needs 0, 99)") == {"A": [], "B": [1], "C": []}
    assert [record.getMessage() for record in caplog.records] == [
        "skeleton: point 1 (A) says that it needs 1, which is no point before it: left out.",
        "skeleton: point 2 (B) says that it needs 3, which is no point before it: left out.",
        "skeleton: point 3 (C) says that it needs 0, 99, which is no point before it: left out.",
    ]


@given(st.lists(st.tuples(st.sampled_from("ABCDEFGH"), st.lists(st.integers(-2, 12), max_size=4)), max_size=20))
def test_no_list_of_needs_makes_a_cycle(items):
    sieve = PointSieve(depends=True)
    for title, needs in items:
        sieve.take(f"{title} (needs {', '.join(map(str, needs))})" if needs else title)
    for point in sieve.points:
        assert all(1 <= other < point["index"] for other in point["depends_on"])
    assert [point["index"] for point in sieve.points] == list(range(1, len(sieve.points) + 1))
