"""Skeletons that are garbage, empty, cut off or refused; keys and models that are wrong."""

import json
from itertools import pairwise

import pytest

from sot_graph import SotConfigError, SotOptions, SotPrompts, create_sot_graph
from sot_graph.testing import CutOff, Fault, Refusal, Reply, SkeletonResponder, ToolCall

ASK = {"question": "How do plants grow?"}


def stage_of(request):
    if "one point" in request.last_user:
        return "point"
    if "Answer the question." in request.last_user:
        return "direct"
    return "json" if request.response_format else "list"


def stages(endpoint):
    return [stage for logged in endpoint.requests if (stage := stage_of(logged.request)) != "point"]


def asks(*wanted):
    return lambda request: stage_of(request) in wanted


GARBAGE = {
    "prose": Reply("I would rather talk about plants in general."),
    "wrong JSON": Reply('{"plants": true}'),
    "broken JSON": Reply('{"points": ["Seed", '),
    "empty": Reply(""),
    "no points": Reply('{"points": []}'),
    "too few": Reply('{"points": ["Seed"]}'),
    "cut off": CutOff(4),
    "refused": Refusal(),
}


@pytest.mark.parametrize("kind", GARBAGE.values(), ids=GARBAGE)
async def test_what_is_no_skeleton_is_asked_for_again_then_as_a_list_then_answered_directly(
    run, endpoint, warnings_of, kind
):
    endpoint.faults = [Fault(kind, asks("json", "list"))]
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert result["route"] == "direct"
    assert result["answer"]
    expected = ["json", "json", "list", "list", "direct"]
    if isinstance(kind, Refusal):  # asking a model that declines once more is in vain,
        expected.remove("json")
        expected.remove("list")
    if isinstance(kind, CutOff):  # and so is asking for the longer form again
        expected.remove("json")
    assert stages(endpoint) == expected
    assert [warning.split("; ")[-1] for warning in warnings_of()] == [
        {"json": "asking again.", "list": "asking again."}[stage]
        if again == stage
        else {"json": "asking in the list format.", "list": "answering directly."}[stage]
        for stage, again in pairwise(expected)
    ]


@pytest.mark.parametrize("mode", ["json_schema", "tools", "md_json"])
async def test_a_skeleton_that_never_ends_is_used_once_a_token_limit_ends_it(run, endpoint, mode):
    points = {"points": [f"Title {number} of many" for number in range(3000)]}

    def endless(request):
        if request.tools:
            return Reply(tool_calls=[ToolCall(request.tools[0]["function"]["name"], points)])
        return Reply(json.dumps(points))

    write = endpoint.responder
    endpoint.responder = lambda request: write(request) if stage_of(request) == "point" else endless(request)
    graph = create_sot_graph(
        endpoint.chat_model(),
        prompts=SotPrompts(skeleton_settings={"max_tokens": 400}),
        options=SotOptions(structured_mode=mode),
    )
    result = await run(graph, ASK)
    assert [point["title"] for point in result["skeleton"]] == points["points"][:10]
    assert result["usage"]["skeleton"]["calls"] == 1


async def test_one_bad_skeleton_costs_one_more_call(run, endpoint, warnings_of):
    endpoint.faults = [Fault(GARBAGE["prose"], asks("json"), times=1)]
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert result["route"] == "skeleton"
    assert stages(endpoint) == ["json", "json"]
    assert len(warnings_of()) == 1


async def test_a_model_that_writes_lists_only_costs_no_call_more(run, endpoint, warnings_of):
    endpoint.faults = [Fault(Reply("1. Seed\n2. Soil\n3. Sun"), asks("json"))]
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert [point["title"] for point in result["skeleton"]] == ["Seed", "Soil", "Sun"]
    assert stages(endpoint) == ["json"]
    assert warnings_of() == []


async def test_a_list_saves_what_no_json_could(run, endpoint, warnings_of):
    endpoint.faults = [Fault(GARBAGE["prose"], asks("json"))]
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert result["route"] == "skeleton"
    assert stages(endpoint) == ["json", "json", "list"]
    assert len(warnings_of()) == 2


async def test_json_saves_what_no_list_could(run, endpoint, warnings_of):
    endpoint.faults = [Fault(GARBAGE["prose"], asks("list"))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(skeleton_format="list"))
    assert (await run(graph, ASK))["route"] == "skeleton"
    assert stages(endpoint) == ["list", "list", "json"]
    assert len(warnings_of()) == 2


async def test_a_server_that_knows_no_schemas_is_asked_for_a_list(run, endpoint):
    endpoint.supports = set()
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert result["route"] == "skeleton"
    assert stages(endpoint) == ["json", "list"]


async def test_a_re_ask_says_what_was_wrong(run, endpoint):
    endpoint.faults = [Fault(Reply('{"points": ["Seed"]}'), asks("json"), times=1)]
    await run(create_sot_graph(endpoint.chat_model()), ASK)
    again = json.dumps(endpoint.requests[1].request.messages)
    assert "Write at least 3 different points; 1 are usable." in again


@pytest.mark.parametrize("skeleton_format", ["structured", "list"])
async def test_a_wrong_key_is_the_providers_error_at_once(run, endpoint, skeleton_format):
    endpoint.api_keys = {"the-right-key"}
    graph = create_sot_graph(endpoint.chat_model(api_key="wrong"), options=SotOptions(skeleton_format=skeleton_format))
    with pytest.raises(SotConfigError, match=r"Incorrect API key.*401"):
        await run(graph, ASK)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("skeleton_format", ["structured", "list"])
async def test_an_unknown_model_is_the_providers_error_at_once(run, endpoint, skeleton_format):
    endpoint.models = {"the-right-model"}
    graph = create_sot_graph(endpoint.chat_model(model="other"), options=SotOptions(skeleton_format=skeleton_format))
    with pytest.raises(SotConfigError, match=r"`other` does not exist.*404"):
        await run(graph, ASK)
    assert len(endpoint.requests) == 1


async def test_too_many_points_are_cut_with_a_warning(run, endpoint, warnings_of):
    endpoint.responder = SkeletonResponder(points=14)
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert len(result["expansions"]) == 10
    assert "the first 10 are kept" in warnings_of()[0]
