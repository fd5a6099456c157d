"""`TextCleaner`: echoes go, text stays, however it comes in."""
# ruff: noqa: RUF001

import time
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from sot_graph.writing.cleaner import TextCleaner

TITLE = "Set clear goals"


def clean(
    text: str, *, index: int = 2, title: str = TITLE, pieces: int | None = None, cut_off: bool = False, **options: Any
) -> str:
    cleaner = TextCleaner(index, title, **options)
    size = pieces or max(1, len(text))
    fed = [cleaner.feed(text[start : start + size]) for start in range(0, len(text), size)]
    result = "".join(fed) + cleaner.finish(cut_off=cut_off)
    assert cleaner.text == result
    return result


@pytest.mark.parametrize("pieces", [None, 1, 3])
@pytest.mark.parametrize(
    "echo",
    [
        "# Section 2: Set clear goals\n",
        "Point 2: Set clear goals\n\n",
        "**Point 2: Set clear goals**\n\n",
        "## Point 2. **Set clear goals**: ",
        "Abschnitt 2 – Set clear goals\n",
        "Section 2\n\n",
        "Set clear goals\n===============\n\n",
        "Set clear goals\n---\n\n",
        "# Section 2: Set clear goals\n====\n",
        "Set clear goals: ",
        "Set clear goals:\n\n",
        "Set clear goals\n",
        "Set clear goals\r\n\r\n",
        "Set clear goals - ",
        "Set clear goals — ",
        "Set clear goals. ",
        "SET CLEAR GOALS: ",
        "set clear goals：",
        "**Set clear goals**: ",
        "**Set clear goals:** ",
        "**Set clear goals**\n\n",
        "**Set clear goals** ",
        "*Set clear goals*: ",
        "__Set clear goals__: ",
        "## Set clear goals\n",
        "### 2. Set clear goals\n\n",
        "> Set clear goals: ",
        '"Set clear goals": ',
        "“Set clear goals”: ",
        "«Set clear goals»: ",
        "`Set clear goals`: ",
        "2. Set clear goals: ",
        "2) **Set clear goals**: ",
        "**2. Set clear goals**: ",
        "**2.** Set clear goals: ",
        "(2) Set clear goals: ",
        "7. Set clear goals: ",
        "- Set clear goals: ",
        "- **Set clear goals**: ",
        "• Set clear goals: ",
        "2. ",
        "2) ",
        "2: ",
        "(2) ",
        "**2.** ",
        " \n\t",
        "## 2. Set clear goals\n\n**Set clear goals**: ",
        "２．Set clear goals\n",
        "２）",
        "（2）",
        "第2点：Set clear goals\n",
        "第2点：",
        "2.- ",
        "\u200f2. Set clear goals\n",
        "Set clear goals\u00a0: ",
        "Set clear goals\u202f: ",
        "Set clear goals。",
        "Set clear goals। ",
        "『Set clear goals』：",
        "»Set clear goals«: ",
        "<point>2. Set clear goals</point>\n",
        "<point>\nSet clear goals\n</point>\n\n",
        "<question>How do I plan?\nAnd when?</question>\n\n",
        "<question>How do I plan?</question>\n<point>2. Set clear goals</point>\n2. Set clear goals: ",
    ],
)
def test_an_echoed_title_or_number_is_stripped_in_every_dress(echo: str, pieces: int | None):
    assert clean(f"{echo}Write them down.", pieces=pieces) == "Write them down."


@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize(
    "text",
    [
        "Set clear goals and write them down.",
        "6点：起床。",
        "2点：起床。",
        "Set clear goals, then plan.",
        "Set clear goalsetting rules.",
        "Set clear goals-based plans.",
        "**Set clear goals** and write them down.",
        "Set clear rules.",
        "Set",
        "2.5 million people do.",
        "2 people do.",
        "20. is not the number.",
        "3. Another number.",
        "- First\n- Second",
        "1. First\n2. Second",
        '"Quoted" words.',
        "**Bold** words.",
        "# A heading\n\ntext",
        "目标很重要。",
        "2",
        "Step 2 is the hardest.",
        "Point 3: another one.",
        "Part of it is luck.",
        "Pointing helps.",
        "P",
        "Section 2 of the act says so.",
        "第2天很好。",
        "第2点很好。",
        "2．5 million",
        "<point>is a tag.",
        "<points>are</points> others.",
        "<question",
    ],
)
def test_what_only_looks_like_an_echo_stays(text: str, pieces: int | None):
    assert clean(text, pieces=pieces) == text


@pytest.mark.parametrize("pieces", [None, 1, 3])
@pytest.mark.parametrize(
    "text",
    ["**Mind:** loosen it.", "„Gießen“ heißt …", "「規則」が大切", "*Solanum* needs sun.", "- one\n- two", "``x`` is"],
)
def test_of_a_number_before_marked_words_only_the_number_goes(text: str, pieces: int | None):
    assert clean(f"2. {text}", pieces=pieces) == text
    assert clean(f"**2.** {text}", pieces=pieces) == text


@pytest.mark.parametrize("pieces", [None, 1, 3])
@pytest.mark.parametrize(
    "title", ["「光」を避ける", "“仁”的含义", "«Licht» messen", "„Gießen“ richtig", "-5 °C and below", "1. Weltkrieg"]
)
@pytest.mark.parametrize(
    "echo", ["{}: ", "{}\n\n", "# {}\n", "**{}**\n", "3. {}\n\n", "**3. {}**: ", "1. {}\n", "Point 3: {}\n", '"{}": ']
)
def test_a_title_that_begins_with_a_mark_or_a_number_is_recognised(title: str, echo: str, pieces: int | None):
    assert clean(f"{echo.format(title)}Text.", title=title, index=3, pieces=pieces) == "Text."
    assert clean(f"{title} is it.", title=title, index=3, pieces=pieces) == f"{title} is it."


@pytest.mark.parametrize("pieces", [None, 1, 3])
@pytest.mark.parametrize("tag", ["point", "question"])
def test_of_a_text_within_the_prompts_tags_the_text_is_kept(tag: str, pieces: int | None):
    assert clean(f"<{tag}>Write.\nThen plan.</{tag}>\n", pieces=pieces) == "Write.\nThen plan."
    assert clean(f"<{tag}>2. Write.</{tag}>", pieces=pieces) == "Write."


@pytest.mark.parametrize("pieces", [None, 1, 3])
def test_a_title_in_tags_that_begins_a_sentence_stays(pieces: int | None):
    text = "<point>Set clear goals</point> is what they say."
    assert clean(text, pieces=pieces) == "Set clear goals is what they say."
    assert clean("<point>Set clear goals</point> Write them down.", pieces=pieces) == "Write them down."
    assert clean("<point>Set clear goals</point> **Write** them down.", pieces=pieces) == "**Write** them down."
    assert clean("<point>土壤</point>是植物生长的基础。", title="土壤", pieces=pieces) == "土壤是植物生长的基础。"
    assert clean("第1点：One\n第2点：Two", index=1, pieces=pieces) == "第1点：One\n第2点：Two"


@pytest.mark.parametrize("pieces", [None, 1, 3])
@pytest.mark.parametrize("echo", ["", "2. ", "Set clear goals:\n", "**2. Set clear goals**\n\n"])
@pytest.mark.parametrize(
    "code",
    [
        "```\n[2]\n```\nand more",
        "```\n2.\n```",
        "```python\n2. x\n```",
        "```\nSet clear goals\n```\nand more",
        "````\n2)\n````\nand more",
    ],
)
def test_code_in_a_fence_stays_as_it_is(code: str, echo: str, pieces: int | None):
    assert clean(echo + code, pieces=pieces) == code


@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize("text", ['"Goals," they say.', "**Goals** matter.", "- one\n- two", "*Goals* matter."])
def test_markup_that_belongs_to_the_text_stays_whole_behind_an_echo(text: str, pieces: int | None):
    assert clean(f"Set clear goals\n{text}", pieces=pieces) == text
    assert clean(f"**Set clear goals**: {text}", pieces=pieces) == text
    assert clean(f"**Set clear goals:** {text}", pieces=pieces) == text


@pytest.mark.parametrize("text", ["0. Zero\n1. One", "**Bold**: text", "2. Two", "# Heading\n\ntext"])
def test_of_a_text_that_is_no_points_nothing_is_taken_away(text: str):
    cleaner = TextCleaner()
    assert cleaner.feed(text) + cleaner.finish() == text


@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize(
    "text",
    ["1. One\n2. Two", "1) One\n\n2) Two\n3) Three", "1. One\n**2.** Two", "١. One\n٢. Two", "（1）One\n（2）Two"],
)
def test_a_list_inside_of_point_one_stays(text: str, pieces: int | None):
    assert clean(text, index=1, pieces=pieces) == text


@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize(("text", "cleaned"), [("1. One", "One"), ("1. One\nmore", "One\nmore"), ("1. ", "1.")])
def test_point_ones_own_number_is_stripped(text: str, cleaned: str, pieces: int | None):
    result = clean(text, index=1, pieces=pieces)
    assert result == ("" if text == "1. " else cleaned)


@pytest.mark.parametrize(
    "text", ["Set clear goals", "**Set clear goals**", "2. Set clear goals.", "## Set clear goals\n", "**", "...", " "]
)
def test_a_text_without_a_word_of_its_own_is_nothing(text: str):
    cleaner = TextCleaner(2, TITLE)
    assert cleaner.feed(text) + cleaner.finish() == ""
    assert not cleaner.says_something


@pytest.mark.parametrize("title", ["Straße", "C++ (basics)", "What is it?", "目标", "İstanbul", "a.b*c", "{x}"])
def test_titles_of_any_kind_are_recognised(title: str):
    assert clean(f"**{title}**: Text.", title=title) == "Text."
    assert clean(f"2. {title}\nText.", title=title, pieces=1) == "Text."


@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize(
    "text", ["**Set clear goals**: Write.", " Write.", "Write.", "**Set clear goals**: Set clear goals: Write."]
)
def test_a_prefill_is_stripped_whether_the_server_repeats_it_or_not(text: str, pieces: int | None):
    assert clean(text, prefill="**Set clear goals**:", pieces=pieces) == "Write."


@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize("text", [" you write, begin.", "**Set clear goals**: When you write, begin."])
def test_the_words_of_a_prefill_that_belong_to_the_text_are_in_it_once(text: str, pieces: int | None):
    cleaner = TextCleaner(2, TITLE, prefill="**Set clear goals**: When", first_words="When")
    given = "".join(map(cleaner.feed, text if pieces else [text])) + cleaner.finish()
    assert given == cleaner.text == "When you write, begin."


def test_an_opening_alone_is_no_text():
    cleaner = TextCleaner(2, TITLE, prefill="**Set clear goals**: When", first_words="When")
    assert cleaner.feed(" ") + cleaner.finish() == ""
    assert not cleaner.says_something


def test_text_without_an_echo_is_shown_with_its_first_words():
    cleaner = TextCleaner(2, TITLE)
    assert cleaner.feed("Write") == "Write"


def test_white_space_is_held_back_until_more_follows():
    cleaner = TextCleaner(2, TITLE)
    assert [cleaner.feed("Write. "), cleaner.feed("\n"), cleaner.feed("Now. "), cleaner.finish()] == [
        "Write.",
        "",
        " \nNow.",
        "",
    ]


@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("One. Two is", "One."),
        ("One. Two.", "One. Two."),
        ("It is 2.5 m", "It is 2.5 m"),
        ("It is 2.5 m. And th", "It is 2.5 m."),
        ('He said "yes." And th', 'He said "yes."'),
        ("一。二", "一。"),
        ("「一。」二", "「一。」"),
        ("एक। दो", "एक।"),
        ("واحد؟ اثنان", "واحد؟"),
        ("ایک۔ دو", "ایک۔"),
        ("No end", "No end"),
    ],
)
def test_a_text_cut_off_ends_at_its_last_whole_sentence_if_so_wanted(text: str, cleaned: str, pieces: int | None):
    assert clean(text, trim_to_sentence=True, cut_off=True, pieces=pieces) == cleaned
    assert clean(text, trim_to_sentence=True, cut_off=False, pieces=pieces) == text
    assert clean(text, cut_off=True, pieces=pieces) == text


@pytest.mark.parametrize(("text", "says"), [("Word", True), ("7", True), ("目", True), ("...", False), ("__", False)])
def test_a_text_says_something_if_there_is_a_word_in_it(text: str, says: bool):
    cleaner = TextCleaner(9, TITLE)
    cleaner.feed(text)
    cleaner.finish()
    assert cleaner.says_something is says


PARTS = st.sampled_from(
    [
        *("Set clear goals", "set CLEAR goals", "Set clear", "goals", "word", "Word"),
        *("1. ", "1.", "2.", "2) ", "2.5", "3.", "(", "["),
        *("\n", "\r\n", " ", "  "),
        *("**", "*", "_", '"', "“", "”", "#", "- ", "•"),
        *(":", "：", ".", "-", "—", "。", "!"),
    ]
)
TEXTS = st.one_of(st.lists(PARTS, max_size=14).map("".join), st.text(max_size=40))


@given(
    TEXTS,
    st.data(),
    st.sampled_from([1, 2, 12]),
    st.sampled_from(["", "**Set clear goals**:", "1."]),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=1500)
def test_the_result_does_not_depend_on_the_pieces(
    text: str, data: st.DataObject, index: int, prefill: str, trim: bool, cut_off: bool
):
    whole = TextCleaner(index, TITLE, prefill=prefill, trim_to_sentence=trim)
    expected = whole.feed(text) + whole.finish(cut_off=cut_off)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    cleaner = TextCleaner(index, TITLE, prefill=prefill, trim_to_sentence=trim)
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    given_back = "".join(map(cleaner.feed, pieces)) + cleaner.finish(cut_off=cut_off)
    assert given_back == cleaner.text == expected
    assert len(given_back) <= len(text)
    assert given_back in text
    assert cleaner.says_something == whole.says_something
    assert cleaner.says_something or not any(char.isalnum() for char in given_back)
    letter_by_letter = TextCleaner(index, TITLE, prefill=prefill, trim_to_sentence=trim)
    assert "".join(map(letter_by_letter.feed, text)) + letter_by_letter.finish(cut_off=cut_off) == expected


MORE_PARTS = st.sampled_from(
    [
        *("「Set」 goals", "「", "」", "Set", "goals", "word", "<point>", "</point>", "<question>", "</question>", "<"),
        *("2. ", "2．", "第2点：", "第", "点", "２", "٢", "\u200f", "\u00a0", "。", "।", "؟ ", ": ", "**", "\n", " "),
    ]
)


@given(st.lists(MORE_PARTS, max_size=12).map("".join), st.integers(1, 3), st.integers(1, 6), st.booleans())
@settings(max_examples=1000)
def test_nor_on_the_pieces_of_tags_and_of_other_languages(text: str, index: int, size: int, cut_off: bool):
    options: Any = {"index": index, "title": "「Set」 goals", "trim_to_sentence": True, "cut_off": cut_off}
    assert clean(text, pieces=size, **options) == clean(text, **options)


@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize("unit", ["<point>", "第2点", "2. ", "Set clear goals: ", "*", " ", "\n", ".", "word ", "1. "])
def test_a_reply_that_never_ends_is_cleaned_in_linear_time(unit: str, trim: bool):
    text = unit * (20_000 // len(unit))
    before = time.process_time()
    clean(text, pieces=4, trim_to_sentence=trim)
    clean(text, pieces=4, trim_to_sentence=trim, index=1)
    assert time.process_time() - before < 20


@pytest.mark.timeout(30)
def test_a_long_text_without_a_word_takes_no_longer_for_each_piece():
    cleaner = TextCleaner(1, "Title")
    assert {cleaner.feed("****") for _ in range(200_000)} == {""}
    assert cleaner.feed("Word") == "****" * 200_000 + "Word"


@pytest.mark.parametrize("text", ["👍", "✅ ✅", "→", "5", "é", "水"])
def test_a_picture_says_something(text: str):
    cleaner = TextCleaner(2, "Title")
    assert cleaner.feed(text) + cleaner.finish() == text
    assert cleaner.says_something


@pytest.mark.parametrize("text", ["", "***", "____", "…", "—", "」"])
def test_marks_say_nothing(text: str):
    cleaner = TextCleaner(2, "Title")
    assert cleaner.feed(text) + cleaner.finish() == ""
    assert not cleaner.says_something
