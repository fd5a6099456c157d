"""A run's figures, and the page that they are drawn on."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from hypothesis import given, strategies as st
from markupsafe import Markup

from sot_graph import SotConfigError, SotOptions, create_sot_graph
from sot_graph.report import measure_run, result_timeline
from sot_graph.report.page import Scale, clean, seconds, shorten, with_bold
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

QUESTION = "How can I sleep better?"
HOSTILE = [
    "<script>alert(1)</script>",
    "</style><style>*{display:none}</style>",
    "</title></svg><img src=x onerror=alert(2)>",
    "\" onload=\"alert(3)' x='",
    "]]>&amp;<![CDATA[",
    "<!-- ",
    "\x00\x1b\x85 \ud800 \ufffe",
    "\u202egnp.exe \u2066 \u2069",
    "عنوان",
    "long " * 5000,
]


def stage_usage(output_tokens=0, calls=0, **more):
    return {
        "input_tokens": 10 * calls,
        "output_tokens": output_tokens,
        "cached_tokens": 3 * calls,
        "calls": calls,
        "cache_hits": 0,
        **more,
    }


def a_result(count=4, *, streamed=True, **more):
    """A skeleton of 1 s; every point waits 0.5 s, and writes a second for 20 characters; 0.25 s of joining."""
    indices = range(1, count + 1)
    texts = {index: "x" * 20 * (2 if index == count else 1) for index in indices}
    points = [{"index": i, "start": 1.0, "first_token": 1.5, "end": 1.5 + len(texts[i]) / 20} for i in indices]
    if not streamed:
        for point in points:
            del point["first_token"]
    end = points[-1]["end"]
    return {
        "skeleton": [{"index": i, "title": f"Title {i}", "depends_on": []} for i in indices],
        "expansions": [
            {"index": i, "title": f"Title {i}", "text": texts[i], "status": "ok", "error": None} for i in indices
        ],
        "answer": "**1. Title 1**\n\nThe answer.",
        "route": "skeleton",
        "route_reason": "a skeleton could be had",
        "usage": {
            "expansion": stage_usage(10 * (count + 1), count),
            "total": stage_usage(10 * (count + 1) + 7, count + 1),
        },
        "timings": {
            "skeleton": {"start": 0.0, "end": 1.0},
            "points": points,
            "join": {"start": end, "end": end + 0.25},
            "total": end + 0.25,
        },
        "messages": [SimpleNamespace(type="human", content=QUESTION), SimpleNamespace(type="ai", content="...")],
        **more,
    }


def with_point(result, index, *, timing=None, **expansion):
    """The result with one point changed."""
    result["expansions"][index - 1].update(expansion)
    if timing is not None:
        result["timings"]["points"][index - 1] = {"index": index, **timing}
    return result


class Seen(HTMLParser):
    """What a browser would make of a page: its tags, attributes and text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


TAGS = set(
    re.findall(
        r"\w+",
        "html head meta title style body header main section footer h1 h2 p dl div dt dd span bdi ul li details "
        "summary strong table caption thead tbody tr th td svg desc defs pattern g line rect path text",
    )
)


def assert_sound(page):
    """Well-formed, of known elements, without scripts and addresses."""
    seen = Seen(page)
    assert seen.open == []
    assert set(seen.tags) <= TAGS
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "href", "style")]
    page.encode("utf-8")
    body = ElementTree.fromstring(page[page.index("<body>") : page.index("</html>")])
    ids = [found.attrib["id"] for found in body.iter() if "id" in found.attrib]
    assert len(ids) == len(set(ids))
    referred = {
        name
        for found in body.iter()
        for key in ("aria-labelledby", "aria-describedby")
        for name in found.attrib.get(key, "").split()
    }
    assert referred <= set(ids)
    return seen


def picture_of(page):
    """The timeline, as it stands in the page."""
    return re.search(r'<svg [^>]*aria-labelledby="timeline-title".*?(?=</section>)', page, re.DOTALL)[0]


def legend_of(page):
    return re.search(r'<ul class="legend">.*?</ul>', page, re.DOTALL)[0]


# The figures


def test_a_streamed_run_is_measured():
    run = measure_run(a_result())
    assert (run.question, run.route, run.total, run.time_to_first_word, run.streamed) == (
        QUESTION,
        "skeleton",
        3.75,
        1.5,
        True,
    )
    assert (run.input_tokens, run.output_tokens, run.cached_tokens, run.calls) == (50, 57, 15, 5)
    assert [point.span.waiting for point in run.points] == [0.5] * 4
    assert [point.span.writing for point in run.points] == [1, 1, 1, 2]
    assert run.complete


def test_the_critical_path_is_skeleton_longest_point_and_join():
    run = measure_run(a_result())
    assert run.critical_path == 1.0 + 2.5 + 0.25
    assert run.critical_points == (4,)
    assert [point.critical for point in run.points] == [False, False, False, True]


def test_the_critical_path_goes_through_the_points_that_wait_for_each_other():
    result = a_result(3)
    result["skeleton"][1]["depends_on"] = [1]
    with_point(result, 2, timing={"start": 2.5, "first_token": 3.0, "end": 4.5})
    result["timings"]["total"] = 5.0
    run = measure_run(result)
    assert run.critical_points == (1, 2)
    assert run.critical_path == 1.0 + 1.5 + 2.0 + 0.25
    assert [point.queued for point in run.points] == [0.0, 1.5, 0.0]
    assert [point.depends_on for point in run.points] == [(), (1,), ()]


def test_the_page_says_what_each_point_waited_for():
    result = a_result(4)
    result["skeleton"][3]["depends_on"] = [1, 2, 3]
    result["skeleton"][2]["depends_on"] = [1]
    page = result_timeline(result)
    assert page.count("done, after 1<") == 1
    assert page.count("(done, after 1)") == 1
    assert page.count("done, after 1, 2 and 3<") == 1


def test_points_that_wait_for_each_other_in_a_circle_do_no_harm():
    result = a_result(2)
    for point, other in zip(result["skeleton"], ([2, 1, 9, "x"], [1]), strict=True):
        point["depends_on"] = other
    assert measure_run(result).critical_points == (1, 2)


def test_one_sequential_answer_is_one_wait_and_the_writing_of_all_points():
    run = measure_run(a_result())
    assert run.sequential_estimate == 0.5 + 1 + 1 + 1 + 2
    assert run.speed_up_estimate == 5.5 / 3.75
    assert not run.sequential_is_upper_bound


def test_of_the_waits_the_shortest_counts_so_that_queueing_does_not():
    result = with_point(a_result(2), 2, timing={"start": 1.0, "first_token": 2.5, "end": 4.5})
    assert measure_run(result).sequential_estimate == 0.5 + 1 + 2


def test_a_run_that_was_not_streamed_gives_an_upper_bound():
    run = measure_run(a_result(streamed=False))
    assert run.sequential_estimate == 1.5 * 3 + 2.5
    assert run.sequential_is_upper_bound
    assert (run.time_to_first_word, run.streamed) == (run.total, False)


def test_text_that_came_in_one_piece_was_not_streamed():
    result = a_result(2)
    for point in result["timings"]["points"]:
        point["first_token"] = point["end"] - 0.001
    assert measure_run(result).sequential_is_upper_bound


def test_a_point_without_a_first_token_counts_by_its_length():
    result = with_point(a_result(), 4, timing={"start": 1.0, "end": 3.5})
    assert measure_run(result).sequential_estimate == 0.5 + 1 + 1 + 1 + 2


def test_tokens_are_shared_out_by_the_length_of_the_texts():
    assert [point.tokens_estimate for point in measure_run(a_result()).points] == [10, 10, 10, 20]


def test_tokens_that_are_not_known_are_not_guessed():
    run = measure_run(a_result(usage={}))
    assert [point.tokens_estimate for point in run.points] == [None] * 4
    assert (run.output_tokens, run.calls) == (None, None)
    assert run.sequential_estimate == 5.5


def test_the_first_word_is_that_of_the_first_point_that_has_one():
    result = with_point(a_result(), 1, text="", status="failed", error="refused", timing={"start": 1.0, "end": 2.0})
    assert measure_run(result).time_to_first_word == 2.0


def test_words_of_a_later_point_wait_for_the_first():
    result = with_point(a_result(), 2, timing={"start": 1.0, "first_token": 1.1, "end": 3.0})
    assert measure_run(result).time_to_first_word == 1.5


def test_a_failed_point_tells_why():
    failed = measure_run(with_point(a_result(), 2, text="", status="failed", error="503")).points[1]
    assert (failed.status, failed.error, failed.tokens_estimate) == ("failed", "503", 0)


def test_points_kept_from_an_earlier_run_have_no_times_and_leave_the_speed_up_open():
    result = a_result()
    del result["timings"]["points"][1:3]
    run = measure_run(result)
    assert [point.span is None for point in run.points] == [False, True, True, False]
    assert run.one_clock
    assert not run.complete
    assert run.speed_up_estimate is run.critical_path is None
    assert run.critical_points == ()
    assert run.sequential_estimate == 5.5
    assert [point.tokens_estimate for point in run.points] == [17, None, None, 33]


@pytest.mark.parametrize(("streamed", "first_word"), [(True, 0.0), (False, 3.75)])
def test_a_text_that_was_kept_is_read_at_once_where_the_rest_is_streamed(streamed, first_word):
    result = a_result(streamed=streamed)
    del result["timings"]["skeleton"], result["timings"]["points"][0]
    run = measure_run(result)
    assert (run.time_to_first_word, run.streamed) == (first_word, streamed)


@pytest.mark.parametrize("timing", [{"start": 0.0, "end": 0.7}, {"start": 1.0, "end": 99.0}], ids=["early", "late"])
def test_times_of_two_clocks_are_noticed(timing):
    run = measure_run(with_point(a_result(), 3, timing=timing))
    assert not run.one_clock
    assert run.time_to_first_word is run.speed_up_estimate is run.critical_path is None
    assert run.end == max(run.total, timing["end"])


def test_a_resumed_run_without_its_skeletons_timing_is_measured_from_its_own_start():
    result = a_result(2)
    del result["timings"]["skeleton"]
    run = measure_run(result)
    assert run.skeleton is None
    assert [point.queued for point in run.points] == [None, None]
    assert run.time_to_first_word == 1.5


def test_results_from_a_cache_leave_the_speed_up_open():
    usage = {"total": stage_usage(50, 4, cache_hits=1)}
    assert measure_run(a_result(usage=usage)).speed_up_estimate is None


@pytest.mark.parametrize(("first_token", "first_word"), [(0.7, 0.7), (None, 3.0)])
def test_a_direct_answer_has_no_sequential_twin(first_token, first_word):
    direct = {"start": 0.2, "end": 3.0, **({"first_token": first_token} if first_token else {})}
    timings = {"route": {"start": 0.0, "end": 0.2}, "direct": direct, "total": 3.0}
    run = measure_run({"route": "direct", "answer": "So.", "timings": timings, "skeleton": [], "expansions": []})
    assert (run.route, run.time_to_first_word, run.sequential_estimate) == ("direct", first_word, None)
    assert run.speed_up_estimate is None


def test_an_empty_result_tells_nothing():
    run = measure_run({})
    told = {key: value for key, value in dataclasses.asdict(run).items() if value not in (None, "", (), 0, False)}
    assert told == {"one_clock": True, "complete": True}


def test_zero_seconds_are_no_reason_to_divide_by_them():
    nothing = {"start": 0, "first_token": 0, "end": 0}
    timings = {"skeleton": nothing, "points": [{"index": i, **nothing} for i in (1, 2, 3, 4)], "total": 0}
    run = measure_run(a_result(timings=timings))
    assert (run.total, run.critical_path) == (0, 0)
    assert run.sequential_estimate is run.speed_up_estimate is None


@pytest.mark.parametrize("odd", [None, -1.0, float("nan"), float("inf"), "1.5", True, [], {}])
def test_a_time_that_makes_no_sense_counts_as_not_known(odd):
    result = with_point(a_result(), 1, timing={"start": 1.0, "end": odd})
    result["timings"]["total"] = odd
    run = measure_run(result)
    assert run.points[0].span is None
    assert run.total == run.end == 3.75
    assert_sound(result_timeline(result))


def test_a_first_token_outside_of_its_call_is_left_out():
    result = with_point(a_result(), 1, timing={"start": 1.0, "first_token": 0.5, "end": 2.0})
    assert measure_run(result).points[0].span.first_token is None


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "..."}],
        [{"type": "human", "content": QUESTION}],
        [{"type": "human", "data": {"content": QUESTION}}, {"type": "ai", "data": {"content": "..."}}],
        [SimpleNamespace(type="human", content=[{"type": "text", "text": QUESTION}, {"type": "image_url"}])],
        [SimpleNamespace(type="human", content="Earlier"), SimpleNamespace(type="human", content=[QUESTION])],
    ],
)
def test_the_question_is_the_last_human_message_in_whatever_form(messages):
    assert measure_run({"messages": messages}).question == QUESTION


@pytest.mark.parametrize("messages", [None, [], "text", [{"role": "assistant", "content": "x"}], [{"type": "human"}]])
def test_no_question_is_an_empty_one(messages):
    assert measure_run({"messages": messages}).question == ""
    assert "A run of sot_graph" in result_timeline({"messages": messages})


def test_a_given_question_goes_before_the_messages():
    assert measure_run(a_result(), question="Else?").question == "Else?"


@pytest.mark.parametrize("result", [None, "answer", [1]])
def test_what_is_no_result_is_refused(result):
    with pytest.raises(SotConfigError, match="dict that a graph returned"):
        result_timeline(result)


async def test_a_real_run_has_the_figures_of_its_own_timings():
    model = ScriptedChatModel(answer_skeleton_of_thought(points=5, words_per_point=12))
    graph = create_sot_graph(model, options=SotOptions(stream=True))
    result = await graph.ainvoke({"question": QUESTION})
    run = measure_run(result)
    assert run.question == QUESTION
    assert run.complete
    assert run.streamed
    assert run.total == result["timings"]["total"]
    assert run.skeleton.end <= run.time_to_first_word <= run.total
    assert 0 < run.critical_path <= run.total
    assert run.calls == 6
    seen = assert_sound(result_timeline(result))
    assert all(any(point["title"] in text for text in seen.text) for point in result["skeleton"])
    plain = json.loads(json.dumps({**result, "messages": []}))
    assert dataclasses.replace(measure_run(plain), question=QUESTION) == run


# The page


@pytest.mark.parametrize("count", [1, 2, 10, 100])
def test_every_point_is_in_the_picture_and_in_the_table(count):
    result = a_result(count)
    body = ElementTree.fromstring(picture_of(result_timeline(result)))
    rows = [found for found in body.iter() if found.attrib.get("class") == "label"]
    titles = [f"{index}. Title {index}" for index in range(1, count + 1)]
    assert [row.text for row in rows] == ["Skeleton", *titles, "Join"]
    assert "".join(assert_sound(result_timeline(result)).text).count("Title ") >= 3 * count


def test_a_bar_is_as_long_as_what_it_stands_for():
    drawn = ElementTree.fromstring(picture_of(result_timeline(a_result())))
    bars = [found.attrib for found in drawn.iter() if found.attrib.get("class", "").startswith("bar ")]

    def second(bar, key):
        return round(float(bar[key].rstrip("%")) * 3.75 * 1.03 / 100, 3)

    assert [(bar["class"], second(bar, "x"), second(bar, "width")) for bar in bars] == [
        ("bar skeleton", 0, 1),
        *[("bar waiting", 1, 0.5), ("bar write", 1.5, 1)] * 3,
        *[("bar waiting", 1, 0.5), ("bar write", 1.5, 2)],
    ]


def test_the_picture_has_a_name_and_a_description_for_those_who_do_not_see_it():
    result = with_point(a_result(), 2, status="failed", error="refused")
    drawn = ElementTree.fromstring(picture_of(result_timeline(result)))
    assert drawn.attrib["role"] == "img"
    names = {found.attrib.get("id"): found.text for found in drawn}
    assert names[drawn.attrib["aria-labelledby"]] == "When each stage and point ran"
    described = names[drawn.attrib["aria-describedby"]]
    assert "4 points ran between 1.00 s and 3.50 s. Failed or cut off: 2." in described
    assert "first word could be read after 1.50 s" in described


def test_a_broken_point_is_told_by_words_pattern_and_mark_not_by_colour_alone():
    result = with_point(a_result(), 2, status="failed", error="refused", timing={"start": 1.0, "end": 2.0})
    with_point(result, 3, status="timed_out", error="the deadline passed")
    page = result_timeline(result)
    drawn, legend = picture_of(page), legend_of(page)
    for style, mark, words in (("failed", "cross", "failed · 1.00 s"), ("late", "cut", "timed out · 1.50 s")):
        assert f'class="bar {style}"' in drawn
        assert f'<pattern id="{style}"' in drawn
        assert f'class="{mark}"' in drawn
        assert words in drawn
        assert f'class="bar {style}"' in legend
    assert "4 points, written in parallel; 1 failed; 1 cut off by the deadline." in page
    assert "refused" in page
    assert "the deadline passed" in page


def test_the_legend_explains_what_is_drawn_and_nothing_else():
    streamed, whole = (legend_of(result_timeline(a_result(streamed=streamed))) for streamed in (True, False))
    assert "Writing" in streamed
    assert "not streamed" not in streamed
    assert "not streamed" in whole
    assert not any(words in whole for words in ("Writing", "first token", "Failed", "turn", "Routing"))


def test_points_that_wait_for_others_have_a_line_to_their_start():
    result = with_point(a_result(2), 2, timing={"start": 2.5, "first_token": 3.0, "end": 3.2})
    page = result_timeline(result)
    assert picture_of(page).count('class="queue"') == 1
    assert "Waiting for its turn" in legend_of(page)


def test_a_pipelined_points_line_begins_with_its_own_title():
    result = with_point(a_result(2), 2, timing={"titled": 0.5, "start": 0.8, "first_token": 1.0, "end": 3.5})
    drawn = ElementTree.fromstring(picture_of(result_timeline(result)))
    [line] = [found.attrib for found in drawn.iter() if found.attrib.get("class") == "queue"]
    scale = Scale(measure_run(result).end)
    assert (line["x1"], line["x2"]) == (scale.at(0.5), scale.at(0.8))


def test_the_estimates_are_named_as_such():
    page = result_timeline(a_result())
    assert page.count('<span class="tag">estimate</span>') == 2
    assert "One sequential answer (estimate)" in page
    assert "Tokens (estimate)" in page
    assert "at most" not in page
    assert "at most" in result_timeline(a_result(streamed=False))


def test_nothing_is_compared_with_a_run_that_is_not_complete():
    result = a_result()
    del result["timings"]["points"][0]
    assert 'aria-labelledby="comparison-title"' in result_timeline(a_result())
    assert 'aria-labelledby="comparison-title"' not in result_timeline(result)
    assert "Beside one sequential answer" not in result_timeline(result)


def test_a_local_models_points_share_a_machine_and_no_speed_up_is_made_of_them():
    run = measure_run(a_result(), local=True)
    assert (run.sequential_estimate, run.speed_up_estimate) == (None, None)
    page = result_timeline(a_result(), local=True)
    assert_sound(page)
    assert "share its cores" in page
    for estimate in ("Speed-up", "Sequential answer", "Beside one sequential answer"):
        assert estimate not in page
        assert estimate in result_timeline(a_result())


def test_a_point_that_a_token_limit_cut_off_says_so():
    result = a_result()
    result["expansions"][1]["truncated"] = True
    page = result_timeline(result)
    assert_sound(page)
    assert "4 points, written in parallel; 1 cut off at a token limit." in page
    assert page.count("done, but cut off at a token limit") == 2  # the picture's tooltip, and the table


def test_a_run_on_two_clocks_says_so():
    result = with_point(a_result(), 3, timing={"start": 0.0, "end": 0.7})
    assert "This run was resumed" in result_timeline(result)


def test_a_direct_answer_is_drawn_as_one_call():
    timings = {"direct": {"start": 0.0, "first_token": 0.5, "end": 3.0}, "total": 3.0}
    page = result_timeline({"answer": "So.", "route": "direct", "route_reason": "it is short", "timings": timings})
    assert_sound(page)
    assert "Answered directly, without a skeleton: it is short." in page
    assert "Speed-up" not in page
    assert "Join" not in page


def test_a_result_without_timings_is_a_page_that_says_so():
    page = result_timeline({"answer": "So."})
    assert_sound(page)
    assert "no timings" in page
    assert "<svg" not in page
    assert "So." in page


def test_the_page_fetches_nothing_and_runs_nothing():
    page = result_timeline(a_result())
    assert (
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'" in page
    )
    assert page.replace("http://www.w3.org/2000/svg", "").count("http") == 1  # http-equiv
    assert "@import" not in page
    assert page.count("url(") == page.count("url(#") > 0


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_the_run_is_only_ever_text(text):
    result = a_result(2)
    for point in (*result["skeleton"], *result["expansions"]):
        point["title"] = text
    with_point(result, 1, status="failed", error=text)
    result["answer"] = f"**{text}**\n{text}"
    result["route_reason"] = text
    plain = assert_sound(result_timeline(a_result(2), question="?", title="!")).tags
    seen = assert_sound(result_timeline(result, question=f"?\n{text}", title=f"! {text}"))
    assert {*seen.tags} - {*plain} <= {"strong", "span", "path", "details", "summary"}
    assert clean(text) in "".join(seen.text)


@given(text=st.text(max_size=200))
def test_any_text_makes_a_sound_page_and_is_on_it(text):
    result = a_result(1, answer=text)
    result["skeleton"][0]["title"] = result["expansions"][0]["title"] = text
    seen = assert_sound(result_timeline(result, question=text))
    assert clean(text).replace("**", "") in "".join(seen.text).replace("**", "")


def test_a_question_that_is_too_long_for_a_heading_can_be_unfolded():
    page = result_timeline(a_result(), question="why " * 200)
    assert "…</h1>" in page
    assert "<details>" in page
    assert "why " * 200 in page
    assert "<details>" not in result_timeline(a_result())


def test_a_title_takes_the_place_of_the_question_in_the_heading():
    page = result_timeline(a_result(), title="Tuesday's <run>")
    assert "<title>Tuesday&#39;s &lt;run&gt;</title>" in page
    assert QUESTION in page


def test_bold_is_the_only_markup_of_an_answer_that_is_shown():
    assert with_bold("**1. A & B** <b>**x** ** y\nz **") == (
        "<strong>1. A &amp; B</strong> &lt;b&gt;<strong>x</strong> ** y\nz **"
    )


def test_characters_that_turn_text_around_are_left_out_and_those_of_spelling_stay():
    assert clean("a\u202eb\u2066c\u200fd\u200de\x00\ud800") == "abc\u200fd\u200de\ufffd\ufffd"


def test_a_text_is_shortened_to_one_line():
    assert shorten("a\n  b\tc", 10) == "a b c"
    assert shorten("abcdefghijk", 10) == "abcdefghi…"


def test_text_that_calls_itself_safe_is_escaped_once_like_any_other():
    text = Markup("<b>1 < 2</b>")
    result = a_result(2, answer=text, route_reason=text)
    result["skeleton"][0]["title"] = result["expansions"][0]["title"] = text
    with_point(result, 1, status="failed", error=text)
    page = result_timeline(result, question=text, title=text)
    assert_sound(page)
    assert "<b>" not in page
    assert "&amp;lt;" not in page
    assert "<title>&lt;b&gt;1 &lt; 2&lt;/b&gt;</title>" in page
    assert "<b>" not in result_timeline({**result, "messages": [{"type": "human", "content": text}]})


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),  # noqa: RUF001
        (0, "0 s"),
        (0.0001, "<1 ms"),
        (0.0123, "12 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.10 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3725, "62 min 5 s"),
    ],
)
def test_times_are_written_with_the_digits_that_count(value, written):
    assert seconds(value) == written


@pytest.mark.parametrize(
    ("end", "labels"),
    [
        (3.75, ["0 s", "1 s", "2 s", "3 s"]),
        (6.0, ["0 s", "1 s", "2 s", "3 s", "4 s", "5 s", "6 s"]),
        (0.03, ["0 s", "0.005 s", "0.010 s", "0.015 s", "0.020 s", "0.025 s", "0.030 s"]),
        (1000.0, ["0 s", "200 s", "400 s", "600 s", "800 s", "1000 s"]),
        (0.0, ["0 s", "0.2 s", "0.4 s", "0.6 s", "0.8 s", "1.0 s"]),
    ],
)
def test_the_axis_has_round_numbers_of_seconds(end, labels):
    assert [tick.label for tick in Scale(end).ticks()] == labels


@given(end=st.floats(min_value=1e-9, max_value=1e9))
def test_the_axis_never_has_more_than_seven_labels(end):
    assert 2 <= len(list(Scale(end).ticks())) <= 7


def test_a_text_in_place_of_a_list_counts_as_not_known():
    figures = measure_run({"usage": {"cost": {"unpriced": "gpt-4"}}, "messages": "Why?", "expansions": "Text."})
    assert (figures.unpriced, figures.question, figures.sections) == ((), "", ())


@pytest.mark.parametrize("odd", [[], {}, 10**400, 1e308, float("nan"), object(), None])
def test_an_odd_value_anywhere_counts_as_not_known(odd):
    result = {
        "answer": "Text.",
        "skeleton": [{"index": 1, "title": odd}],
        "expansions": [{"index": 1, "title": "A", "text": "Text.", "status": odd, "error": odd}],
        "usage": {"total": {"output_tokens": odd}, "expansion": {"output_tokens": odd}},
        "timings": {"points": [{"index": 1, "start": 0.0, "end": odd}], "total": odd},
    }
    assert measure_run(result).points[0].status == "missing"
    assert "<html" in result_timeline(result)


def framed(introduction_end=2.5, **more):
    """A run of 4 points whose last one ends at 3.5, an introduction beside them and a conclusion of 1 s after them."""
    result = a_result(**more)
    parts = {"introduction": "x" * 20, "conclusion": "x" * 10}
    result["frame"] = {name: {"text": text, "status": "ok", "error": None} for name, text in parts.items()}
    result["timings"] |= {
        "introduction": {"start": 1.0, "first_token": 1.5, "end": introduction_end},
        "conclusion": {"start": 3.5, "first_token": 4.0, "end": 4.5},
        "join": {"start": 4.5, "end": 4.75},
        "total": 4.75,
    }
    return result


def test_a_conclusion_is_on_the_critical_path_and_an_introduction_beside_it():
    run = measure_run(framed())
    assert run.complete
    assert run.critical_path == pytest.approx(4.75)
    assert run.critical_points == (4,)
    assert run.section("conclusion").critical
    assert not run.section("introduction").critical
    assert "skeleton, point 4, conclusion, join" in result_timeline(framed())


def test_an_introduction_that_takes_longest_is_on_the_critical_path():
    run = measure_run(framed(introduction_end=3.5 + 1e-9))
    assert run.critical_points == ()
    assert run.section("introduction").critical
    assert "skeleton, introduction, conclusion, join" in result_timeline(framed(introduction_end=3.5 + 1e-9))


def test_the_first_word_is_the_introductions():
    result = framed()
    result["timings"]["introduction"] = {"start": 1.0, "first_token": 1.2, "end": 2.5}
    assert measure_run(result).time_to_first_word == 1.2
    result["frame"]["introduction"] = {"text": "", "status": "failed", "error": "why"}
    assert measure_run(result).time_to_first_word == 2.5


def test_one_sequential_answer_has_the_frames_text_too():
    assert measure_run(framed()).sequential_estimate > measure_run(a_result()).sequential_estimate


def test_the_page_shows_what_became_of_the_frame():
    result = framed()
    result["frame"]["conclusion"] = {"text": "", "status": "timed_out", "error": "<b>late</b>"}
    page = result_timeline(result)
    assert "Introduction" in page
    assert "&lt;b&gt;late&lt;/b&gt;" in page
    assert "Cut off by the deadline" in page


def test_a_frame_that_was_kept_has_no_times_of_this_run():
    result = framed()
    del result["timings"]["introduction"]
    run = measure_run(result)
    assert not run.complete
    assert run.section("introduction").span is None
    assert "kept from an earlier run" in result_timeline(result)


def test_a_run_without_a_frame_has_none():
    run = measure_run(a_result())
    assert run.section("introduction") is None
    assert run.section("conclusion") is None


def test_a_long_gap_in_a_question_hides_nothing_of_it():
    assert shorten("a" + " " * 700 + "hello", 100) == "a hello"
    assert shorten(" " * 700 + "word " * 40, 20) == "word word word word…"
