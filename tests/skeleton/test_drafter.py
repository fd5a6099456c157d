"""Getting a skeleton from a model: structured or as a list, each the other's fallback."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from sot_graph import SotOptions, SotPrompts, join_markdown
from sot_graph.errors import SkeletonError, SotConfigError
from sot_graph.llm.loop_bound_model import LoopModel
from sot_graph.run import GraphParts, Inquiry, RunContext
from sot_graph.skeleton.drafter import Draft, Drafter, NoSkeletonError
from sot_graph.skeleton.points import given_points, skeleton_schema
from sot_graph.testing import (
    ChatRequest,
    CutOff,
    Fault,
    Physics,
    Refusal,
    Reply,
    ScriptedChatModel,
    SimulatedEndpoint,
    SkeletonResponder,
    Stall,
    Status,
)
from tests.support.strict_endpoint import StrictEndpoint

TITLES = ["Alpha one", "Beta two", "Gamma three"]
JSON = '{"points":["Alpha one","Beta two","Gamma three"]}'
LIST = "1. Alpha one\n2. Beta two\n3. Gamma three"
PROSE = "I would rather not plan."

MakeRun = Callable[..., RunContext]


@pytest.fixture
def endpoint() -> Iterator[StrictEndpoint]:
    with StrictEndpoint(SkeletonResponder(titles=TITLES), physics=Physics.instant()) as running:
        yield running


async def draft(run: RunContext, model: Any, prompts: SotPrompts | None = None) -> Draft:
    run.parts = GraphParts(
        model=LoopModel(model),
        skeleton_model=LoopModel(model),
        prompts=prompts or SotPrompts(),
        options=SotOptions(),
        join=join_markdown,
        cache=None,
    )
    return await Drafter(run, Inquiry(question="What?", history=[])).draft()


def titles(drafted: Draft) -> list[str]:
    return [point["title"] for point in drafted.points]


def by_format(structured: str, as_list: str) -> Callable[[ChatRequest], Reply]:
    return lambda request: Reply(structured if request.response_format else as_list)


def formats(endpoint: SimulatedEndpoint) -> list[str]:
    return ["structured" if entry.request.response_format else "list" for entry in endpoint.requests]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of giving a format up; that a skeleton was asked for again is told by tests/reliability."""
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [message for message in said if not message.endswith("asking again.")]


async def test_a_valid_reply_is_the_skeleton_at_once(endpoint: SimulatedEndpoint, make_run: MakeRun):
    run = make_run()
    drafted = await draft(run, endpoint.chat_model())
    assert titles(drafted) == TITLES
    assert drafted.text == JSON
    assert drafted.skeleton_format == "structured"
    assert formats(endpoint) == ["structured"]
    usage = run.meter.usage["skeleton"]
    assert usage["calls"] == 1
    assert usage["input_tokens"] == endpoint.requests[0].request.prompt_tokens
    assert usage["output_tokens"] == endpoint.requests[0].tokens_sent


async def test_too_few_points_are_asked_for_again_with_the_reason_and_every_call_is_counted(
    endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.responder = lambda request: JSON if "at least 3 different points" in request.text else '{"points":["A"]}'
    run = make_run()
    assert titles(await draft(run, endpoint.chat_model())) == TITLES
    assert formats(endpoint) == ["structured", "structured"]
    usage = run.meter.usage["skeleton"]
    assert usage["calls"] == 2
    assert usage["input_tokens"] == sum(entry.request.prompt_tokens for entry in endpoint.requests)
    assert usage["output_tokens"] == sum(entry.tokens_sent for entry in endpoint.requests)


@pytest.mark.parametrize("mode", ["json_schema", "tools", "md_json"])
async def test_a_list_in_place_of_json_is_parsed_without_another_call(
    mode: str, endpoint: SimulatedEndpoint, make_run: MakeRun, caplog: pytest.LogCaptureFixture
):
    endpoint.responder = lambda _: f"Sure!\n\n{LIST}"
    assert titles(await draft(make_run(structured_mode=mode), endpoint.chat_model())) == TITLES
    assert len(endpoint.requests) == 1
    assert warnings(caplog) == []


@pytest.mark.parametrize("mode", ["json_schema", "tools", "md_json"])
async def test_every_mode_gives_the_same_skeleton(mode: str, endpoint: SimulatedEndpoint, make_run: MakeRun):
    assert titles(await draft(make_run(structured_mode=mode), endpoint.chat_model())) == TITLES
    assert len(endpoint.requests) == 1


async def test_repeated_points_are_not_counted_twice(endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.responder = by_format('{"points":["A a","**a a**","B b"]}', LIST)
    assert titles(await draft(make_run(max_reasks=0), endpoint.chat_model())) == TITLES
    assert formats(endpoint) == ["structured", "list"]


async def test_the_list_is_the_fallback_of_the_structured_format_and_said_once(
    endpoint: SimulatedEndpoint, make_run: MakeRun, caplog: pytest.LogCaptureFixture
):
    endpoint.responder = by_format(PROSE, LIST)
    drafted = await draft(make_run(), endpoint.chat_model())
    assert titles(drafted) == TITLES
    assert (drafted.text, drafted.skeleton_format) == (LIST, "list")
    assert formats(endpoint) == ["structured", "structured", "list"]
    assert warnings(caplog) == [
        "No skeleton in the structured format (the model's reply was not the JSON that was asked for); "
        "asking in the list format."
    ]


async def test_the_structured_format_is_the_fallback_of_the_list(
    endpoint: SimulatedEndpoint, make_run: MakeRun, caplog: pytest.LogCaptureFixture
):
    endpoint.responder = by_format(JSON, PROSE)
    assert titles(await draft(make_run(skeleton_format="list"), endpoint.chat_model())) == TITLES
    assert formats(endpoint) == ["list", "list", "structured"]
    assert len(warnings(caplog)) == 1
    assert "asking in the structured format" in warnings(caplog)[0]


async def test_if_both_formats_fail_the_question_is_answered_directly_and_each_failure_is_said_once(
    endpoint: SimulatedEndpoint, make_run: MakeRun, caplog: pytest.LogCaptureFixture
):
    endpoint.responder = by_format('{"points":["A"]}', PROSE)
    run = make_run()
    with pytest.raises(NoSkeletonError, match="1 usable points of at least 3; 0 usable points of at least 3"):
        await draft(run, endpoint.chat_model())
    assert [message.partition(" (")[0] for message in warnings(caplog)] == [
        "No skeleton in the structured format",
        "No skeleton in the list format",
    ]
    assert "answering directly" in warnings(caplog)[1]
    assert run.meter.usage["skeleton"]["calls"] == len(endpoint.requests) == 4


async def test_a_list_too_short_is_asked_for_again_with_the_reason(endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.responder = lambda request: LIST if "has 2 usable points" in request.last_user else "1. A\n2. B"
    assert titles(await draft(make_run(skeleton_format="list"), endpoint.chat_model())) == TITLES
    second = endpoint.requests[1].request.messages
    assert second[-2] == {"role": "assistant", "content": "1. A\n2. B"}
    assert len(endpoint.requests) == 2


async def test_without_reasks_each_format_is_asked_for_once(endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.responder = lambda _: PROSE
    with pytest.raises(NoSkeletonError):
        await draft(make_run(max_reasks=0), endpoint.chat_model())
    assert formats(endpoint) == ["structured", "list"]


@pytest.mark.parametrize("skeleton_format", ["structured", "list"])
async def test_too_many_points_are_cut_with_a_warning(
    skeleton_format: str, endpoint: SimulatedEndpoint, make_run: MakeRun, caplog: pytest.LogCaptureFixture
):
    run = make_run(min_points=1, max_points=2, skeleton_format=skeleton_format)
    drafted = await draft(run, endpoint.chat_model())
    assert titles(drafted) == TITLES[:2]
    assert drafted.text == "1. Alpha one\n2. Beta two"
    assert warnings(caplog) == ["The skeleton has 3 points; the first 2 are kept (max_points)."]
    assert len(endpoint.requests) == 1
    await draft(run, endpoint.chat_model())
    assert len(warnings(caplog)) == 1  # once a run


async def test_a_profile_that_cuts_by_itself_warns_of_nothing(
    endpoint: SimulatedEndpoint, make_run: MakeRun, caplog: pytest.LogCaptureFixture
):
    drafted = await draft(make_run(min_points=1), endpoint.chat_model(), SotPrompts(max_points=2))
    assert titles(drafted) == TITLES[:2]
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    "reply", ['{"points":["1. Alpha one","**Beta two**","Gamma three"]}', f"Sure, a plan!\n{LIST}\n" + "x" * 200]
)
async def test_a_text_that_had_to_be_cleaned_goes_on_as_numbered_lines(
    reply: str, endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.responder = lambda _: reply
    assert (await draft(make_run(), endpoint.chat_model())).text == LIST


async def test_json_cut_off_is_not_asked_for_again_in_the_same_format(endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.faults = [Fault(CutOff(5), match=lambda request: bool(request.response_format))]
    run = make_run()
    assert titles(await draft(run, endpoint.chat_model())) == TITLES
    assert formats(endpoint) == ["structured", "list"]
    assert run.meter.usage["skeleton"]["output_tokens"] == sum(entry.tokens_sent for entry in endpoint.requests)


async def test_the_half_title_of_a_list_cut_off_is_dropped(endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.responder = lambda _: f"{LIST}\n4. Delta four"
    whole = len(["1.", "Alpha", "one", "2.", "Beta", "two", "3.", "Gamma", "three"])
    endpoint.faults = [Fault(CutOff(whole + 2))]
    assert titles(await draft(make_run(skeleton_format="list"), endpoint.chat_model())) == TITLES


async def test_a_refusal_in_both_formats_leads_to_a_direct_answer(endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.faults = [Fault(Refusal())]
    with pytest.raises(NoSkeletonError):
        await draft(make_run(max_reasks=0), endpoint.chat_model())
    assert formats(endpoint) == ["structured", "list"]


@pytest.mark.parametrize(
    ("withheld", "why"),
    [
        (Reply("I can't", finish_reason="content_filter"), "the provider's filter withheld it"),
        (Reply(refusal="No."), "the model declined"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_skeleton_that_is_withheld_is_not_asked_for_again_and_not_called_cut_off(
    withheld: Reply, why: str, stream: bool, endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.responder = lambda request: withheld if request.response_format else PROSE
    with pytest.raises(NoSkeletonError, match=rf"^{why}; 0 usable points of at least 3$"):
        await draft(make_run(stream=stream), endpoint.chat_model())
    assert formats(endpoint) == ["structured", "list", "list"]


@pytest.mark.parametrize("ending", ["length", "content_filter"])
async def test_the_half_title_of_a_list_in_place_of_json_is_dropped(
    ending: str, endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.responder = lambda _: Reply(f"{LIST}\n4. Delta fo", finish_reason=ending)
    drafted = await draft(make_run(structured_mode="md_json"), endpoint.chat_model())
    assert titles(drafted) == TITLES
    assert drafted.skeleton_format == "structured"


@pytest.mark.parametrize(("mode", "supports"), [("json_schema", {"tools"}), ("tools", {"json_schema"})])
async def test_a_server_that_knows_no_schemas_is_asked_for_a_list(
    mode: str, supports: Any, endpoint: StrictEndpoint, make_run: MakeRun, caplog: pytest.LogCaptureFixture
):
    endpoint.supports = supports
    run = make_run(structured_mode=mode)
    drafted = await draft(run, endpoint.chat_model())
    assert titles(drafted) == TITLES
    assert drafted.skeleton_format == "list"
    assert [entry.status for entry in endpoint.requests] == [400, 200]
    assert run.meter.usage["skeleton"]["calls"] == 2
    assert len(warnings(caplog)) == 1
    assert "does not support" in warnings(caplog)[0]


@pytest.mark.parametrize("skeleton_format", ["structured", "list"])
@pytest.mark.parametrize(("code", "changes"), [(401, {"api_key": "sk-wrong"}), (404, {"model": "unknown"})])
async def test_a_refused_key_or_model_name_is_a_config_error_after_exactly_one_request(
    code: int, changes: dict[str, str], skeleton_format: str, endpoint: StrictEndpoint, make_run: MakeRun
):
    endpoint.api_keys, endpoint.models = {"sk-right"}, {"known"}
    chat = endpoint.chat_model(**{"api_key": "sk-right", "model": "known", **changes})
    with pytest.raises(SotConfigError, match=rf"HTTP {code}\)\. Check the key, the model's name") as caught:
        await draft(make_run(skeleton_format=skeleton_format), chat)
    assert "sk-" not in str(caught.value)
    assert len(endpoint.requests) == 1


async def test_a_server_that_stays_down_is_a_skeleton_error(endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.faults = [Fault(Status(502, retry_after=0))]
    run = make_run(max_retries=2)
    with pytest.raises(SkeletonError, match=r"HTTP 502\)\. Check that the endpoint is up"):
        await draft(run, endpoint.chat_model())
    assert run.meter.usage["skeleton"]["calls"] == len(endpoint.requests) == 3


async def test_a_server_that_comes_back_is_asked_again_and_every_call_counted(
    endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.faults = [Fault(Status(429, retry_after=0), times=2)]
    run = make_run(max_retries=2)
    assert titles(await draft(run, endpoint.chat_model())) == TITLES
    assert run.meter.usage["skeleton"]["calls"] == 3


async def test_a_stalled_server_is_a_skeleton_error_after_the_timeout(endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.faults = [Fault(Stall())]
    with pytest.raises(SkeletonError, match=r"not there after 0\.3 s: raise SotOptions.skeleton_timeout"):
        await draft(make_run(skeleton_timeout=0.3), endpoint.chat_model())


async def test_a_deadline_shorter_than_the_timeout_wins(endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.faults = [Fault(Stall())]
    with pytest.raises(SkeletonError, match="not there after"):
        await draft(make_run(deadline=0.3), endpoint.chat_model())


async def test_a_models_own_timeout_is_not_taken_for_ours(make_run: MakeRun):
    model = ScriptedChatModel(lambda _: TimeoutError())
    with pytest.raises(SkeletonError, match="the model did not answer in time"):
        await draft(make_run(max_retries=0), model)


async def test_a_cancelled_draft_stays_cancelled(endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.faults = [Fault(Stall())]
    running = asyncio.create_task(draft(make_run(), endpoint.chat_model()))
    await endpoint.wait_for_async(lambda entries: len(entries) == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_model_without_tools_and_schemas_is_asked_in_words(make_run: MakeRun):
    model = ScriptedChatModel(lambda _: f"```json\n{JSON}\n```")
    drafted = await draft(make_run(), model)
    assert titles(drafted) == TITLES
    assert len(model.calls) == 1


@pytest.mark.parametrize(
    "reply",
    [
        " Alpha one\n2. Beta two\n3. Gamma three",  # goes on after the prefill
        LIST,  # repeats it
        f"Here is the list:\n{LIST}",  # never minded it
    ],
)
async def test_a_prefill_is_completed_repeated_or_ignored(reply: str, make_run: MakeRun):
    prompts = SotPrompts(skeleton_prefill="1.", skeleton_format="list")
    model = ScriptedChatModel(lambda _: reply)
    assert titles(await draft(make_run(skeleton_format="list"), model, prompts)) == TITLES


async def test_prompts_written_for_one_format_are_asked_in_that_one_only(make_run: MakeRun):
    model = ScriptedChatModel(lambda _: PROSE)
    with pytest.raises(NoSkeletonError):
        await draft(make_run(max_reasks=0, skeleton_format="list"), model, SotPrompts.small())
    assert len(model.calls) == 1


@pytest.mark.parametrize("skeleton_format", ["structured", "list"])
async def test_the_prompts_own_most_points_lower_the_fewest_too(
    skeleton_format: str, endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.responder = by_format('{"points":["A a","B b"]}', "1. A a\n2. B b")
    run = make_run(min_points=3, skeleton_format=skeleton_format)
    assert titles(await draft(run, endpoint.chat_model(), SotPrompts(max_points=2))) == ["A a", "B b"]
    assert len(endpoint.requests) == 1


async def test_similar_titles_are_not_counted_where_the_prompts_drop_them(
    endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.responder = by_format('{"points":["Daily walks","Daily walk","Daily walking"]}', LIST)
    run = make_run(max_reasks=0)
    assert titles(await draft(run, endpoint.chat_model(), SotPrompts(drop_similar_titles=True))) == TITLES


def test_the_schema_is_compact_and_forbids_the_rest():
    schema = skeleton_schema(3).model_json_schema()
    assert schema["title"] == "Skeleton"
    assert schema["properties"] == {"points": {"items": {"type": "string"}, "title": "Points", "type": "array"}}
    assert schema["required"] == ["points"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    "value",
    [
        {"points": TITLES},
        TITLES,
        {"points": [{"title": title} for title in TITLES]},
        {"points": [*TITLES, 5, None, {}]},
    ],
)
def test_the_schema_takes_titles_bare_and_dressed(value: Any):
    assert skeleton_schema(3).model_validate(value).points == TITLES


@pytest.mark.parametrize(
    "value", [{}, {"points": "x"}, {"points": []}, {"points": ["A", "a", "A."]}, 5, {"points": {}}]
)
def test_the_schema_refuses_what_is_no_skeleton(value: Any):
    with pytest.raises(ValidationError):
        skeleton_schema(3).model_validate(value)


def test_the_schema_says_how_many_points_are_missing():
    with pytest.raises(ValidationError, match="Write at least 3 different points; 1 are usable"):
        skeleton_schema(3).model_validate({"points": ["A", "A"]})


def test_given_points_are_numbered_and_cleaned():
    assert given_points(["1. Alpha", {"title": "**Beta**", "index": 9, "depends_on": []}, {"point": "Gamma"}]) == [
        {"index": 1, "title": "Alpha", "depends_on": []},
        {"index": 2, "title": "Beta", "depends_on": []},
        {"index": 3, "title": "Gamma", "depends_on": []},
    ]
    assert given_points(("Alpha",)) == [{"index": 1, "title": "Alpha", "depends_on": []}]
    assert given_points([]) == []


@pytest.mark.parametrize("given", [None, "Alpha", {"title": "Alpha"}, 5])
def test_a_given_skeleton_that_is_no_list_is_refused(given: Any):
    with pytest.raises(
        SotConfigError, match=f"given_skeleton is a list of titles or points, not {type(given).__name__}"
    ):
        given_points(given)


@pytest.mark.parametrize("entry", ["", "  ", "...", None, 5, {}, {"title": None}, ["Alpha"]])
def test_a_given_entry_without_a_title_is_refused_by_its_position(entry: Any):
    with pytest.raises(SotConfigError, match="given_skeleton: entry 2 is"):
        given_points(["Alpha", entry])


REFUSALS = [
    Status(404, body={"error": {"message": "No endpoints found that support the requested parameters"}}),
    Status(403, body={"error": {"message": "response_format is not allowed for this model"}}),
    Status(400, body={"error": {"message": "json_schema is not supported"}}),
    Status(501, body={"error": {"message": "Not implemented"}}),
    Status(500),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda status: str(status.code))
async def test_a_schema_that_is_refused_is_no_end_and_is_not_sent_again(
    endpoint: SimulatedEndpoint, make_run: MakeRun, caplog: pytest.LogCaptureFixture, refusal: Status
):
    endpoint.faults = [Fault(refusal, lambda request: bool(request.response_format))]
    run = make_run(max_retries=0)
    assert titles(await draft(run, endpoint.chat_model())) == TITLES
    assert len(endpoint.requests) == 2
    assert titles(await Drafter(run, Inquiry(question="And now?", history=[])).draft()) == TITLES  # with the same model
    assert len(endpoint.requests) == 3
    told = [record.message for record in caplog.records if "structured_mode" in record.message]
    assert len(told) == 1
