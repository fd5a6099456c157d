"""From what a model wrote to clean titles."""
# ruff: noqa: RUF001

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from sot_graph.skeleton.parser import parse_skeleton, titles_from_json
from sot_graph.skeleton.points import MAX_TITLE_CHARS, PointSieve, clean_title, clean_titles, given_points

ABC = ["Alpha", "Beta", "Gamma"]


def parsed(text: str) -> list[str]:
    return clean_titles(parse_skeleton(text))


@pytest.mark.parametrize(
    "text",
    [
        "1. Alpha\n2. Beta\n3. Gamma",
        "1) Alpha\n2) Beta\n3) Gamma",
        "(1) Alpha\n(2) Beta\n(3) Gamma",
        "[1] Alpha\n[2] Beta\n[3] Gamma",
        "1: Alpha\n2: Beta\n3: Gamma",
        "1 - Alpha\n2 - Beta\n3 – Gamma",
        "1.Alpha\n2.Beta\n3.Gamma",
        "  1. Alpha\n  2. Beta\n  3. Gamma",
        " 9. Alpha\n10. Beta\n11. Gamma",
        "1. Alpha\n1. Beta\n1. Gamma",
        "Step 1: Alpha\nStep 2: Beta\nStep 3: Gamma",
        "Point 1. Alpha\nPoint 2. Beta\nPoint 3. Gamma",
        "- Alpha\n- Beta\n- Gamma",
        "* Alpha\n* Beta\n* Gamma",
        "+ Alpha\n+ Beta\n+ Gamma",
        "• Alpha\n• Beta\n• Gamma",
        "– Alpha\n– Beta\n– Gamma",
        "- **Alpha**\n- **Beta**\n- **Gamma**",
        "**1. Alpha**\n**2. Beta**\n**3. Gamma**",
        "1. **Alpha**\n2. **Beta**:\n3. __Gamma__",
        "1. **Alpha**: the first one\n2. **Beta** - the second\n3. **Gamma:** the third",
        "## 1. Alpha\ntext\n## 2. Beta\ntext\n## 3. Gamma",
        "> 1. Alpha\n> 2. Beta\n> 3. Gamma",
        '1. "Alpha"\n2. “Beta”\n3. «Gamma»',
        "1. Alpha\r\n2. Beta\r\n3. Gamma\r\n",
        "1. Alpha\n\n2. Beta\n\n3. Gamma",
        "```\n1. Alpha\n2. Beta\n3. Gamma\n```",
        "- 1. Alpha\n- 2. Beta\n- 3. Gamma",
        "１．Alpha\n２．Beta\n３．Gamma",
        "1、Alpha\n2、Beta\n3、Gamma",
        "一、Alpha\n二、Beta\n三、Gamma",
        "第一点：Alpha\n第二点：Beta\n第三点：Gamma",
        "١. Alpha\n٢. Beta\n٣. Gamma",
        "١- Alpha\n٢- Beta\n٣- Gamma",
        "（1）Alpha\n（2）Beta\n（3）Gamma",
        "①Alpha\n② Beta\n③ Gamma",
        "⑴ Alpha\n⑵ Beta\n⑶ Gamma",
        "（一）Alpha\n（二）Beta\n（三）Gamma",
        "第一，Alpha\n第二，Beta\n第三，Gamma",
        "第1点：Alpha\n第2点：Beta\n第3点：Gamma",
        "第1，Alpha\n第2，Beta\n第3，Gamma",
        "第一、Alpha\n第二、Beta\n第三、Gamma",
        "・Alpha\n・Beta\n・Gamma",
        "● Alpha\n● Beta\n● Gamma",
        "○Alpha\n○Beta\n○Gamma",
        "\u200f1. Alpha\n\u200f2. Beta\n\u200f3. Gamma",
        "\u200e- Alpha\n\u200e- Beta\n\u200e- Gamma",
        "* 1. Alpha\n* 2. Beta\n* 3. Gamma",
        "{“points”: [“Alpha”, “Beta”, “Gamma”]}",
        '{"points":["Alpha","Beta","Gamma"]}',
        '["Alpha", "Beta", "Gamma"]',
        'Here:\n```json\n{"points": [\n"Alpha",\n"Beta",\n"Gamma"\n]}\n```\nDone.',
        '{"skeleton": {"points": ["Alpha", "Beta", "Gamma"]}}',
        '{"points":[{"title":"Alpha"},{"title":"Beta"},{"title":"Gamma"}]}',
        '[{"index":1,"point":"Alpha"},{"index":2,"name":"Beta"},{"index":3,"heading":"Gamma"}]',
        '{"points":["Alpha",2,null,"Beta",{"x":1},"Gamma"]}',
        "See [1] and {x}: ['not json'] " + '{"points":["Alpha","Beta","Gamma"]}',
    ],
)
def test_lists_of_every_kind_give_their_titles(text: str):
    assert parsed(text) == ABC


@pytest.mark.parametrize(
    "text",
    [
        "Sure! Here are 3 points in 2.5 seconds:\n\n1. Alpha\n2. Beta\n3. Gamma\n\nLet me know at 12:30.",
        "1. Alpha\n   More about it,\n   in several lines.\n2. Beta\n3. Gamma\nThat is all.",
        "1. Alpha\n   - sub one\n   - sub two\n2. Beta\n   a) sub\n3. Gamma",
        "1. Alpha\n   1. sub one\n   2. sub two\n2. Beta\n3. Gamma",
        "1. Alpha\n1.1 sub\n1.2. sub\n2. Beta\n3. Gamma",
        "- Alpha\n  - sub\n    - subsub\n- Beta\n- Gamma",
        "- Alpha\n\t- sub\n- Beta\n- Gamma",
        "2.5x faster than before:\n1. Alpha\n2.5 million people\n2. Beta\n3. Gamma",
        "Step 1: a list of bullets\n- Alpha\n- Beta\n- Gamma",
        '1. Alpha\n2. Beta: such as ["x", "y"]\n3. Gamma',
    ],
)
def test_what_stands_around_and_below_the_items_is_left_out(text: str):
    titles = parsed(text)
    assert [titles[0], titles[1].partition(":")[0], titles[2]] == ABC
    assert len(titles) == 3


@pytest.mark.parametrize(
    "text",
    ["", " \n ", "No list here.", "2.5x faster", "{}", "[]", '{"points":[]}', '{"points":["a', "[[[[", "1.5", "12:30"],
)
def test_text_without_a_list_gives_nothing(text: str):
    assert parsed(text) == []


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        ("1. Alpha", "Alpha"),
        ("1. 2) Alpha", "Alpha"),
        ('**1. "Alpha"**', "Alpha"),
        ("### Alpha:", "Alpha"),
        ("Alpha.", "Alpha"),
        ("4. *Kurz* halten", "Kurz halten"),
        ("_Solanum_ needs *much* sun", "Solanum needs much sun"),
        ("a * b and *args", "a * b and *args"),
        ("`Alpha`", "Alpha"),
        ("_Alpha_", "Alpha"),
        ("Alpha\nBeta\tGamma", "Alpha Beta Gamma"),
        ("  Alpha \u200b Beta\ufeff ", "Alpha Beta"),
        ("Al\x00pha\x1b", "Al pha"),
        ("Alpha\ud83d", "Alpha"),
        ("Why is it so?", "Why is it so?"),
        ("Learn C++ and C#", "Learn C++ and C#"),
        (".NET basics", ".NET basics"),
        ("2.5x faster", "2.5x faster"),
        ("12:30 lunch", "12:30 lunch"),
        ("80-20 rule", "80-20 rule"),
        ("3 good habits", "3 good habits"),
        ("**Eat** more vegetables", "Eat more vegetables"),
        ("*光*を避ける", "光を避ける"),
        ("*snake_case* naming", "snake_case naming"),
        ("The (*) notes (*) here", "The (*) notes (*) here"),
        ("*C++* and *.NET* and *What?*", "C++ and .NET and What?"),
        ("*हिन्दी* सीखें", "हिन्दी सीखें"),
        ("Use f(_) and g(_)", "Use f(_) and g(_)"),
        ('Multiplication "*" and "*"', 'Multiplication "*" and "*"'),
        ("6点：起床", "6点：起床"),
        ("**Alpha**: what it is", "Alpha"),
        ("**Alpha** what it is and why it is so important to all", "Alpha"),
        ('"Yes" and "No"', '"Yes" and "No"'),
        ("'Don't panic'", "Don't panic"),
        ("Don't panic", "Don't panic"),
        ("Alpha: a description of it that goes on for very long", "Alpha"),
        ("Alpha: beta", "Alpha: beta"),
        ("می‌خواهم بدانم", "می‌خواهم بدانم"),
        ("👩‍👧 family time", "👩‍👧 family time"),
        ("🎉", "🎉"),
        ("目标。", "目标"),
        ("「目标」", "目标"),
        ("...", ""),
        ("** **", ""),
        ("1.", ""),
        ("", ""),
        ("\u200d", ""),
        ("{braces} stay", "{braces} stay"),
    ],
)
def test_a_title_loses_its_dress_and_nothing_else(raw: str, title: str):
    assert clean_title(raw) == title


def test_max_words_cuts_the_description_first_and_then_words():
    assert clean_title("Alpha: a short one", max_words=6) == "Alpha"
    assert clean_title("one, two, three, four, five", max_words=3) == "one, two, three"


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Learn to say no to non-essential tasks", "Learn to say no to non-essential tasks"),
        ("Take regular breaks during the day to rest your eyes and mind", "Take regular breaks during the day"),
        ("Drink at least eight glasses of fresh clear water every single day", "Drink at least eight glasses"),
        ("alpha beta gamma delta epsilon zeta eta theta iota kappa", "alpha beta gamma delta epsilon zeta"),
    ],
)
def test_a_long_title_ends_where_a_reader_would_end_it(title, shown):
    assert clean_title(title, max_words=6) == shown


def test_a_title_too_long_ends_in_an_ellipsis():
    title = clean_title("x" * 500)
    assert len(title) == MAX_TITLE_CHARS
    assert title.endswith("…")


def test_repeated_titles_are_dropped_whatever_their_capitals_and_punctuation():
    assert clean_titles(["Set goals", "set goals.", "**SET  GOALS**", "Set-goals", "Plan"]) == ["Set goals", "Plan"]


@pytest.mark.parametrize(
    "titles",
    [
        ["C", "C++", "C#", "Objective-C"],
        ["What costs 50", "What costs 50%", "What costs $50"],
        ["At 5 °C", "At -5 °C"],
        ["Version 1.5", "Version 15"],
        ["कि", "की", "का"],
        ["ก้าว", "กาว", "ข่าว", "ขาว"],
        ["and/or", "and or"],
    ],
    ids=str,
)
def test_titles_that_differ_to_a_reader_are_different(titles: list[str]):
    assert clean_titles(titles) == titles


@pytest.mark.parametrize(
    ("raw", "titles"),
    [
        (["400: Bad Request", "404: Not Found"], ["400: Bad Request", "404: Not Found"]),
        (["-5°C and below", "Above"], ["-5°C and below", "Above"]),
        (["__init__", "The method __new__"], ["__init__", "The method __new__"]),
        (["__Bold__", "**Bolder**"], ["Bold", "Bolder"]),
        (["1. Light", "2) Water", "(3) Soil"], ["Light", "Water", "Soil"]),
        (["0. Light", "1. Water"], ["Light", "Water"]),
        (["Step 1: Light", "Step 2: Water"], ["Light", "Water"]),
        (["一、目标", "二、计划"], ["目标", "计划"]),
    ],
    ids=str,
)
def test_only_a_place_in_the_list_is_taken_off(raw: list[str], titles: list[str]):
    assert clean_titles(raw) == titles
    sieve = PointSieve()
    assert [point["title"] for title in raw if (point := sieve.take(title))] == titles
    assert [point["title"] for point in given_points(raw)] == titles
    assert [point["title"] for point in given_points(titles)] == titles


def test_a_list_that_goes_on_may_count_on_or_anew():
    for rest in (["3. Soil", "4. Air"], ["1. Soil", "2. Air"]):
        sieve = PointSieve()
        sieve.remember(given_points(["Light", "Water"]))
        assert [point["title"] for title in rest if (point := sieve.take(title))] == ["Soil", "Air"]


def test_so_may_one_whose_numbers_begin_with_the_digits_of_the_first():
    eleven = given_points([f"Point {letter}" for letter in "abcdefghijk"])
    for rest in (["12. Soil", "13. Air"], ["1. Soil", "2. Air"]):
        sieve = PointSieve()
        sieve.remember(eleven)
        assert [point["title"] for title in rest if (point := sieve.take(title))] == ["Soil", "Air"]


def test_titles_without_letters_are_compared_as_they_are():
    assert clean_titles(["🎉", "🎉", "🚀"]) == ["🎉", "🚀"]


def test_similar_titles_are_dropped_on_request_only():
    raw = ["Planning meals", "Planned meal", "Daily exercise", "Daily exercise routine", "Sleep"]
    assert len(clean_titles(raw)) == 5
    assert clean_titles(raw, drop_similar=True) == ["Planning meals", "Daily exercise", "Sleep"]


def test_points_are_numbered_by_code():
    assert given_points(["b", "a"]) == [
        {"index": 1, "title": "b", "depends_on": []},
        {"index": 2, "title": "a", "depends_on": []},
    ]
    assert given_points([]) == []


def test_a_lone_surrogate_in_escaped_json_never_reaches_a_title():
    titles = clean_titles(titles_from_json('{"points":["Alpha \\ud83d","Beta"]}') or [])
    assert titles == ["Alpha", "Beta"]


def check(text: str, **options: Any) -> None:
    titles_from_json(text)
    titles = clean_titles(parse_skeleton(text), **options)
    for title in titles:
        assert title == title.strip() != ""
        assert len(title.splitlines()) == 1
        assert len(title) <= MAX_TITLE_CHARS
        title.encode("utf-8")
    assert [point["index"] for point in given_points(titles)] == list(range(1, len(titles) + 1))


PIECES = st.sampled_from(
    [
        *("1. ", "2) ", "- ", "* ", "Step ", "一", "٣", "①", "・", "第", "，", "（", "\u200f", "\u2060"),
        *("\n", " ", "\t", "\u2028", "\x85", "\u200d", "\ud800", "\\ud800"),
        *("**", "__", "`", "#", '"', "“", "”", ":", "、", "...", "…"),
        *("{", "}", "[", "]", ",", '"points"', "word", "x" * 150),
    ]
)


@given(st.one_of(st.text(st.characters(), max_size=300), st.lists(PIECES, max_size=60).map("".join)))
@settings(max_examples=400)
def test_whatever_a_model_writes_gives_well_formed_titles(text: str):
    check(text)
    check(text, max_words=3, drop_similar=True)


@given(st.one_of(st.text(st.characters(), max_size=200), st.lists(PIECES, max_size=30).map("".join)))
@settings(max_examples=400)
def test_a_clean_title_stays_as_it_is_when_cleaned_again(text: str):
    title = clean_title(text)
    assert clean_title(title) == title


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
        max_leaves=20,
    )
)
def test_any_json_is_taken(value: Any):
    check(json.dumps(value))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 20_000,
        '["' * 50_000,
        "[1," * 33_000,
        "1. " * 33_000,
        "1. a\n" * 20_000,
        "".join(f"{number % 1000}. t{number}\n" for number in range(12_000)),
        "- " + "." * 99_000 + "x",
        "1. " + "1. " * 300 + "." * 99_000 + "x",
        ("1. " + "1. " * 300 + "." * 1000 + "x\n") * 50,
        "**" * 50_000,
        " " * 100_000,
        "1" * 100_000,
        '1. "' + "'" * 99_000,
        "**" + "a" * 99_000,
        "- " * 50_000,
        "\n" * 100_000,
        "(point " * 15_000,
        "`" * 100_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_hundred_thousand_characters_take_seconds_at_most(text: str):
    before = time.process_time()
    check(text)
    check(text, max_words=6, drop_similar=True)
    assert time.process_time() - before < 20  # what is quadratic in the text takes minutes
