"""Sources read from what an expander gave, and their numbers in the whole answer."""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st
from langchain_core.documents import Document
from pydantic import HttpUrl

from sot_graph import AnswerReader, join_headings, join_markdown, join_plain
from sot_graph.citations import (
    CitedText,
    Numbering,
    cited_sources,
    number_sources,
    without_its_citations,
)
from sot_graph.joiners import join_answer
from sot_graph.sources import list_sources, read_sources

SUN, SOIL, WATER = {"title": "Sun"}, {"title": "Soil", "id": "soil.md"}, {"title": "Water", "url": "https://w.org/a"}


def point(index, text, *sources, status="ok"):
    expansion = {"index": index, "title": f"T{index}", "text": text, "status": status, "error": None}
    return {**expansion, "sources": list(sources)} if sources else expansion


def test_a_source_is_a_text_or_a_mapping():
    assert read_sources(["A  book ", "https://a.org/x"]) == [
        {"title": "A book"},
        {"title": "https://a.org/x", "url": "https://a.org/x"},
    ]
    assert read_sources([{"title": "T", "url": "https://a.org", "id": "t.md", "score": 3}]) == [
        {"title": "T", "url": "https://a.org", "id": "t.md"}
    ]
    assert read_sources([{"url": "https://a.org"}]) == [{"title": "https://a.org", "url": "https://a.org"}]


@dataclass
class Found:
    title: str
    url: object = None
    id: object = None


def test_a_source_may_be_an_object_or_a_document():
    number = UUID(int=7)
    assert read_sources([Found("T", HttpUrl("https://a.org/x"), number), Found("F", Path("notes/soil.md"))]) == [
        {"title": "T", "url": "https://a.org/x", "id": str(number)},
        {"title": "F", "url": "notes/soil.md"},
    ]
    assert read_sources(
        [
            Document("Text.", id="1", metadata={"source": "https://a.org", "title": "A"}),
            Document("Text.", metadata={"source": "soil.md", "page_label": "iv", "page": 3}),
        ]
    ) == [
        {
            "title": "A",
            "url": "https://a.org",
            "id": "1",
            "page_content": "Text.",
            "metadata": {"source": "https://a.org", "title": "A"},
        },
        {
            "title": "soil.md",
            "page": "iv",
            "page_content": "Text.",
            "metadata": {"source": "soil.md", "page_label": "iv", "page": 3},
        },
    ]


@pytest.mark.parametrize(
    "wrong", ["a", 7, None, [7], [""], [{}], [{"title": 3}], [{"title": "T", "id": ["a"]}], [Document("Text.")]]
)
def test_what_is_no_source_is_an_error_that_shows_it(wrong):
    with pytest.raises(ValueError, match="source"):
        read_sources(wrong)


def test_each_points_numbers_become_those_of_the_whole_answer():
    first, second = point(1, "A [1] b [2].", SUN, SOIL), point(2, "C [2] d [1].", WATER, SUN)
    numbering = Numbering()
    expansions, sources = number_sources([first, second], numbering), numbering.sources
    assert [expansion["text"] for expansion in expansions] == ["A [1] b [2].", "C [1] d [3]."]
    assert [(source["number"], source["title"]) for source in sources] == [(1, "Sun"), (2, "Soil"), (3, "Water")]


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("several [1, 2] and [2;1]", "several [6, 7] and [7, 6]"),
        ("by id [soil.md]", "by id [7]"),
        ("mixed [soil.md, 1]", "mixed [7, 6]"),
        ("side by side [1][2]", "side by side [6][7]"),
        ("a range [1-2]", "a range [6, 7]"),
        ("a range [1–2], [ 1 – 2 ] and [1]–[2]", "a range [6, 7], [6, 7] and [6, 7]"),  # noqa: RUF001
        ("no range [2]-[1]", "no range [7, 6]"),
        ("half known [2-9]", "half known [7, ?]"),
        ("a footnote [^1] and [^1, ^2]", "a footnote [6] and [6, 7]"),
        ("a page [1, p. 3] and [2, pp. 4-5; 1, § 6]", "a page [6, p. 3] and [7, pp. 4-5, 6, § 6]"),
        ("unknown [3]", "unknown [?]"),
        ("invented [handbook.md, p. 3] and [1; a b.pdf, pp. 4-5]", "invented [?, p. 3] and [6, ?, pp. 4-5]"),
        (
            "no citation [main.py], [Fig. 2, p. 3] and [e.g., p. 3]",
            "no citation [main.py], [Fig. 2, p. 3] and [e.g., p. 3]",
        ),
        ("numbers [0-1], [1990-1995], [2-1] and [1, x]", "numbers [0-1], [1990-1995], [2-1] and [1, x]"),
        ("a link [1](https://a.org)", "a link [1](https://a.org)"),
        ("a remark [sic] and [2024]", "a remark [sic] and [2024]"),
        ("code `a[1]` and ```\nb[2]\n``` end [2]", "code `a[1]` and ```\nb[2]\n``` end [7]"),
        ("half [1", "half [1"),
        ("pages [1, S. 4], [2, page 4] and [1, Seite 4]", "pages [6, S. 4], [7, page 4] and [6, Seite 4]"),
        ("a page behind a space [1 p. 4] or a colon [2: p. 4]", "a page behind a space [6, p. 4] or a colon [7, p. 4]"),
        ("two [1 and 2], [2 und 1], [2 & 1]", "two [6, 7], [7, 6], [7, 6]"),
        ("见[1、2]和[2，1]，[1，第3页]", "见[6, 7]和[7, 6]，[6, 第3页]"),  # noqa: RUF001
        ("digits of other scripts [٢], [१] and [1-२]", "digits of other scripts [7], [6] and [6, 7]"),
        ("from zero [0, 1], a[0] and [0]", "from zero [0, 1], a[0] and [0]"),
        ("nice~~~ see [2]", "nice~~~ see [7]"),
        ("```\na[1]\n``````\n[2]", "```\na[1]\n``````\n[7]"),
        ("[1, 2, and 1], [1-2 and 1], [2；1]", "[6, 7], [6, 7], [7, 6]"),  # noqa: RUF001
        ("[1, p. 3, and 2, pp. 4 and 5], [Mann and Mann]", "[6, p. 3, 7, pp. 4 and 5], [Mann and Mann]"),
        ("[0]-[2] and [1]-[0]", "[0]-[2] and [1]-[0]"),
        ("[soil.md and 1]", "[7, 6]"),
        ("[e 2], [and 2], [& 1], [2 and]", "[e 2], [and 2], [& 1], [2 and]"),
        ("````\n```\na[1]\n```\n````\n~~no~~ [2]", "````\n```\na[1]\n```\n````\n~~no~~ [7]"),
    ],
)
def test_what_is_a_citation_and_what_is_not(text, becomes):
    numbering = Numbering(lists_all=True)
    numbering.renumber("", [{"title": f"Earlier {number}"} for number in range(5)])
    assert numbering.renumber(text, [SUN, SOIL]) == becomes
    cited = CitedText(numbering, [SUN, SOIL])
    assert "".join(map(cited.feed, text)) + cited.finish() == becomes


UNUSUAL_IDS = [
    "Smith, 2020",
    "a;b",
    "notes[1].md",
    "[x]",
    "a]b",
    "Big  name",
    " padded ",
    "two\nlines",
    "p. 3",
    "^z",
    "1-2",
    "a (b)",
    "x" * 300,
    "Smith, J. [ed.] " + "y" * 250,
]


@pytest.mark.parametrize("name", UNUSUAL_IDS, ids=lambda name: name[:20])
def test_any_id_can_be_cited(name):
    sources = read_sources([{"title": "Other", "id": "o"}, {"title": "This", "id": name}])
    no_citation = f"[{name}](https://a.org), ```[{name}]```"
    text = f"A [{name}], b [o, {name}], c [{name}; o]. And {no_citation}."
    numbering = Numbering(lists_all=True)
    numbering.renumber("", [SUN])
    assert numbering.renumber(text, sources) == f"A [3], b [2, 3], c [3, 2]. And {no_citation}."
    assert without_its_citations({"text": "A [" + name + "].", "sources": sources})["text"] == "A."
    assert cited_sources(f"A [{name}].", sources) == [sources[1]]


def test_of_ids_that_begin_alike_the_longest_is_meant():
    sources = read_sources([{"title": title, "id": title} for title in ("Smith", "Smith, 2020", "2020")])
    numbering = Numbering(lists_all=True)
    assert numbering.renumber("A [Smith, 2020] b [Smith] c [2020, Smith].", sources) == "A [2] b [1] c [3, 1]."


def test_a_long_row_of_spaces_or_brackets_takes_no_time():
    name = "a, b " * 50
    for text in (" " * 50_000, "[" * 50_000, f"[{name}" * 500, "[ " * 20_000 + name):
        sources = read_sources([{"title": "T", "id": name}])
        assert without_its_citations({"text": text, "sources": sources})["text"] == text


def test_the_numbers_that_a_database_gives_its_rows_are_ids():
    rows = read_sources([{"id": 41, "title": "Sun"}, {"id": 42, "title": "Soil"}, {"id": 1, "title": "Water"}])
    assert Numbering().renumber("A [42] b [41-42] c [1] d [2].", rows) == "A [1] b [2, 1] c [3] d [1]."


def test_a_point_without_sources_is_left_as_it_is():
    assert Numbering().renumber("See [1].", None) == "See [1]."


def test_where_there_are_no_documents_every_citation_is_marked_and_counted():
    numbering = Numbering()
    assert numbering.renumber("See [1], [2-3] and [x].", []) == "See [?], [?] and [x]."
    assert numbering.unsupported == 3


def test_the_same_address_is_the_same_source():
    numbering = Numbering(lists_all=True)
    numbering.renumber("", [{"title": "One name", "url": "https://a.org"}])
    assert numbering.renumber("[1]", [{"title": "Another name", "url": "https://a.org"}]) == "[1]"
    assert len(numbering.sources) == 1


def test_the_list_is_markdown_that_a_source_can_not_break_out_of():
    sources = read_sources(
        [
            {"title": "Plain"},
            {"title": "A [link](x) <b>", "url": "https://a.org/a(b) c"},
            {"title": "Bad", "url": "javascript:alert(1)"},
            {"title": "Two\n\n# lines", "url": "https://b.org"},
            {"title": "pkg/__init__.py, my_file.md, *Soil* and ~~x~~", "page": "12, 13"},
            {"title": "Roman", "page": "iv–x"},  # noqa: RUF001
            {"title": "# Soil Soil is loose"},
            {"title": "1. Introduction"},
        ]
    )
    numbering = Numbering()
    number_sources([point(1, "[1-8]", *sources)], numbering)
    numbered = numbering.sources
    assert list_sources(numbered).splitlines() == [
        "1. Plain",
        r"2. [A \[link\](x) \<b\>](https://a.org/a%28b%29%20c)",
        "3. Bad (javascript:alert%281%29)",
        "4. [Two # lines](https://b.org)",
        r"5. pkg/\_\_init\_\_.py, my_file.md, \*Soil\* and \~~x\~~, p. 12, 13",
        "6. Roman, p. iv–x",  # noqa: RUF001
        r"7. \# Soil Soil is loose",
        r"8. 1\. Introduction",
    ]


def test_each_join_has_its_own_way_to_the_list():
    points = [point(1, "A [1].", SUN)]
    assert join_markdown("?", [], points) == "**1. T1**\n\nA [1].\n\n**Sources**\n\n1. Sun"
    assert join_plain("?", [], points) == "1. T1: A [1].\n\nSources:\n1. Sun"
    assert join_headings("?", [], points) == "## T1\n\nA [1].\n\n## Sources\n\n1. Sun"


def test_a_join_of_ones_own_gets_numbered_texts_and_sources():
    def join(question, skeleton, expansions):
        return "; ".join(f"{one['text']} {[source['number'] for source in one['sources']]}" for one in expansions)

    points = [point(1, "A [1].", SUN), point(2, "B [1].", SOIL)]
    assert join_answer(join, "?", [], points, "mark")[0] == "A [1]. [1]; B [2]. [2]"


@pytest.mark.parametrize(("style", "listed"), [("brackets", "**Sources**\n\n1. Sun"), ("footnotes", "[^1]: Sun")])
def test_a_join_that_calls_another_lists_sources_in_the_answers_style(style, listed):
    def join(question, skeleton, expansions):
        return f"{join_markdown(question, skeleton, expansions)}\n\n(end)"

    answer = join_answer(join, "?", [], [point(1, "A [1].", SUN)], "mark", numbering=Numbering(style))[0]
    mark = "[^1]" if style == "footnotes" else "[1]"
    assert answer == f"**1. T1**\n\nA {mark}.\n\n{listed}\n\n(end)"


def test_two_sources_that_are_cited_at_the_same_page_keep_it_both():
    assert Numbering().renumber("X [1, p. 3; 2, p. 3].", [SUN, SOIL]) == "X [1, p. 3, 2, p. 3]."
    assert Numbering().renumber("X [1, p. 3; 1, p. 3; 2].", [SUN, SOIL]) == "X [1, p. 3, 2]."


def test_a_point_that_is_left_out_brings_no_sources():
    points = [point(1, "", SUN, status="failed"), point(2, "B [1].", SOIL)]
    answer, sources, _ = join_answer(join_markdown, "?", [], points, "skip")
    assert answer == "**2. T2**\n\nB [1].\n\n**Sources**\n\n1. Soil"
    assert [source["title"] for source in sources] == ["Soil"]


SOURCES = st.lists(st.sampled_from([SUN, SOIL, WATER, {"title": "Wind"}]), max_size=3)
TEXTS = st.lists(
    st.sampled_from(
        [
            "Words. ",
            "[1]",
            "[2",
            "]",
            "[1, 2]",
            "[1-2]",
            "-",
            "[^1]",
            "`a[",
            "1]`",
            "[soil.md]",
            "[",
            "[9]",
            "```",
            "\n",
            "(x)",
        ]
    ),
    min_size=1,
    max_size=8,
)
POINTS = st.lists(st.tuples(TEXTS, SOURCES, st.sampled_from(["ok", "failed"])), min_size=1, max_size=4)


@settings(max_examples=150)
@given(
    POINTS,
    st.randoms(),
    st.sampled_from([join_markdown, join_plain]),
    st.sampled_from(["mark", "skip"]),
    st.sampled_from(["brackets", "footnotes"]),
    st.booleans(),
)
def test_what_is_read_is_the_answer_whatever_comes_when(points, random, join, on_point_failure, style, lists_all):
    expansions = [
        {
            "index": index,
            "title": f"T{index}",
            "text": "".join(pieces),
            "status": status,
            "error": None,
            "sources": sources,
        }
        for index, (pieces, sources, status) in enumerate(points, start=1)
    ]
    numbering = Numbering(style, lists_all=lists_all)
    answer, *_ = join_answer(join, "?", [], expansions, on_point_failure, numbering=numbering)
    queues = []
    for (pieces, sources, status), expansion in zip(points, expansions, strict=True):
        end = {"type": "sot.point.end", "index": expansion["index"], "status": status, "sources": sources}
        end |= {"shown": True, "tail": "" if status == "ok" else join.tail_of(expansion)}
        deltas = [{"type": "sot.point.delta", "index": expansion["index"], "text": piece} for piece in pieces]
        start = {"type": "sot.point.start", "index": expansion["index"], "title": "", "attempt": 1, "sources": sources}
        queues.append([*([start] if random.random() < 0.7 else []), *deltas, end])  # known before the text, or not
    skeleton = {
        "type": "sot.skeleton",
        "points": expansions,
        "heads": [join.head_of(expansion) for expansion in expansions],
        "separator": join.separator,
        "eager": on_point_failure != "skip",
        "cites": True,
        "frame_cites": False,
        "citation_style": style,
        "lists_all": lists_all,
    }
    reader = AnswerReader()
    text = reader.feed(skeleton)
    while queues := [queue for queue in queues if queue]:
        text += reader.feed(random.choice(queues).pop(0))
    assert answer.startswith(text)
    assert answer == text + numbering.listed(join.sources)  # the list stands last
    assert text + reader.feed({"type": "sot.answer", "answer": answer}) == answer
