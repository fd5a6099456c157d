"""Validated output from any chat model."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel, field_validator

from sot_graph import SotOptions, create_sot_graph
from sot_graph.llm.call import ModelCall
from sot_graph.llm.loop_bound_model import LoopModel
from sot_graph.llm.reply import Reply as ModelReply
from sot_graph.llm.structured_output import InvalidOutputError, ask_structured, to_completion
from sot_graph.run import RunContext
from sot_graph.testing import (
    CutOff,
    Fault,
    Garbage,
    Physics,
    Reply,
    ScriptedChatModel,
    SimulatedEndpoint,
    SkeletonResponder,
    Status,
    ToolCall,
    answer_skeleton_of_thought,
)

ASK = [HumanMessage("Name three.")]
MODES = ["json_schema", "tools", "md_json"]


class Names(BaseModel):
    names: list[str]

    @field_validator("names")
    @classmethod
    def _three(cls, value: list[str]) -> list[str]:
        if len(value) < 3:
            raise ValueError("Give three names.")
        return value


@pytest.fixture
def endpoint() -> Iterator[SimulatedEndpoint]:
    with SimulatedEndpoint(physics=Physics.instant()) as running:
        yield running


MakeRun = Callable[..., RunContext]


def call(task: RunContext, model: Any, **settings: Any) -> ModelCall:
    return ModelCall(LoopModel(model), "skeleton", task, {}, settings)


def as_asked(text: str) -> Callable[[Any], Reply]:
    """Answers with a tool's call where there are tools, else with the text."""
    return lambda request: (
        Reply(tool_calls=[ToolCall(request.tools[0]["function"]["name"], text)]) if request.tools else Reply(text)
    )


@pytest.mark.parametrize("mode", MODES)
async def test_a_valid_reply_takes_one_call(mode: Any, endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.responder = as_asked('{"names":["a","b","c"]}')
    task = make_run()
    parsed, text = await ask_structured(call(task, endpoint.chat_model()), ASK, Names, mode=mode, max_reasks=1)
    assert isinstance(parsed, Names)
    assert parsed.names == ["a", "b", "c"]
    assert text.replace(" ", "") == '{"names":["a","b","c"]}'
    assert len(endpoint.requests) == 1
    request = endpoint.requests[0].request
    assert (request.response_format.get("type") == "json_schema") is (mode == "json_schema")
    assert bool(request.tools) is (mode == "tools")


async def test_a_schema_is_asked_for_strictly(endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.responder = as_asked('{"names":["a","b","c"]}')
    await ask_structured(call(make_run(), endpoint.chat_model()), ASK, Names, mode="json_schema", max_reasks=0)
    assert endpoint.requests[0].request.response_format["json_schema"]["strict"] is True


@pytest.mark.parametrize("mode", MODES)
async def test_an_invalid_reply_is_asked_for_again_with_what_was_wrong(
    mode: Any, endpoint: SimulatedEndpoint, make_run: MakeRun
):
    def answer(request: Any) -> Reply:
        return as_asked('{"names":["a","b","c"]}' if "Give three names" in request.text else '{"names":["a"]}')(request)

    endpoint.responder = answer
    task = make_run()
    parsed, _ = await ask_structured(call(task, endpoint.chat_model()), ASK, Names, mode=mode, max_reasks=1)
    assert len(parsed.names) == 3
    assert len(endpoint.requests) == 2
    assert task.meter.usage["skeleton"]["calls"] == 2
    assert task.meter.usage["skeleton"]["input_tokens"] == sum(
        entry.request.prompt_tokens for entry in endpoint.requests
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("max_reasks", [0, 2])
async def test_a_reply_that_never_validates_ends_with_all_replies(
    mode: Any, max_reasks: int, endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.responder = as_asked('{"names":["a"]}')
    task = make_run()
    with pytest.raises(InvalidOutputError) as caught:
        await ask_structured(call(task, endpoint.chat_model()), ASK, Names, mode=mode, max_reasks=max_reasks)
    assert [reply.replace(" ", "") for reply in caught.value.replies] == ['{"names":["a"]}'] * (max_reasks + 1)
    assert task.meter.usage["skeleton"]["calls"] == max_reasks + 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", ["", "no JSON at all", "{", "[]", "null"])
async def test_a_reply_that_is_no_json_is_invalid_output(
    mode: Any, text: str, endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.responder = lambda _: text
    with pytest.raises(InvalidOutputError):
        await ask_structured(call(make_run(), endpoint.chat_model()), ASK, Names, mode=mode, max_reasks=0)


@pytest.mark.parametrize("mode", MODES)
async def test_a_refusal_is_invalid_output(mode: Any, endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.responder = lambda _: Reply(refusal="I can't help with that.")
    with pytest.raises(InvalidOutputError):
        await ask_structured(call(make_run(), endpoint.chat_model()), ASK, Names, mode=mode, max_reasks=0)


@pytest.mark.parametrize("mode", MODES)
async def test_a_reply_cut_off_is_invalid_output_not_asked_for_again_and_counted(
    mode: Any, endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.responder = as_asked('{"names":["a","b","c"]}')
    endpoint.faults = [Fault(CutOff(3))]
    task = make_run()
    with pytest.raises(InvalidOutputError) as caught:
        await ask_structured(call(task, endpoint.chat_model()), ASK, Names, mode=mode, max_reasks=3)
    assert len(endpoint.requests) == len(caught.value.replies)
    assert task.meter.usage["skeleton"]["output_tokens"] == 3 * len(endpoint.requests)
    if mode == "json_schema":
        assert len(endpoint.requests) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_a_filtered_reply_is_invalid_output(mode: Any, endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.responder = lambda _: Reply("", finish_reason="content_filter")
    with pytest.raises(InvalidOutputError):
        await ask_structured(call(make_run(), endpoint.chat_model()), ASK, Names, mode=mode, max_reasks=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("reply", "ending"),
    [(Reply("I can't", finish_reason="content_filter"), "filtered"), (Reply(refusal="No."), "refused")],
)
async def test_a_reply_that_is_withheld_is_not_asked_for_again_and_told_as_such(
    mode: Any, reply: Reply, ending: str, endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.responder = lambda _: reply
    with pytest.raises(InvalidOutputError) as caught:
        await ask_structured(call(make_run(), endpoint.chat_model()), ASK, Names, mode=mode, max_reasks=2)
    assert caught.value.ending == ending
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "text", ['{"names":["a"]}', "no JSON at all", Status(400)], ids=["invalid", "no JSON", "error"]
)
async def test_instructor_writes_nothing_of_a_failure_into_the_log(
    mode: Any, text: Any, endpoint: SimulatedEndpoint, make_run: MakeRun, caplog: pytest.LogCaptureFixture
):
    if isinstance(text, Status):
        endpoint.faults = [Fault(text)]
    endpoint.responder = as_asked(str(text))
    with pytest.raises((InvalidOutputError, openai.BadRequestError)):
        await ask_structured(call(make_run(), endpoint.chat_model()), ASK, Names, mode=mode, max_reasks=1)
    assert [record for record in caplog.records if record.name.startswith("instructor")] == []


OTHER_FORMS = {
    "an echo of the schema": '{"properties": {"points": ["Light", "Water", "Soil"]}}',
    "the schema's name around it": '{"Skeleton": {"points": ["Light", "Water", "Soil"]}}',
    "another key": '{"skeleton": ["Light", "Water", "Soil"]}',
    "further keys": '{"reasoning": "They differ.", "points": ["Light", "Water", "Soil"]}',
    "numbers for keys": '{"points": {"1": "Light", "2": "Water", "3": "Soil"}}',
    "a list of one": '[{"points": ["Light", "Water", "Soil"]}]',
    "JSON in a string": json.dumps('{"points": ["Light", "Water", "Soil"]}'),
    "two opening braces": '{\n\n{"points": ["Light", "Water", "Soil"]}',
    "the same twice": '{"points": ["Light", "Water", "Soil"]}{"points": ["Light", "Water", "Soil"]}',
    "a comma too many": '{"points": ["Light", "Water", "Soil",]}',
    "single quotes": "{'points': ['Light', 'Water', 'Soil']}",
    "a comment": '{"points": ["Light", // first\n "Water", "Soil"]}',
}


@pytest.mark.parametrize("reply", OTHER_FORMS.values(), ids=OTHER_FORMS)
@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
async def test_titles_in_another_form_cost_no_second_call(reply: str, dispatch: Any, caplog: Any):
    answer = answer_skeleton_of_thought(["Light", "Water", "Soil"])
    model = ScriptedChatModel(lambda messages: reply if "Reply with JSON" in messages[-1].text else answer(messages))
    result = await create_sot_graph(model, options=SotOptions(dispatch=dispatch)).ainvoke({"question": "Why?"})
    assert [point["title"] for point in result["skeleton"]] == ["Light", "Water", "Soil"]
    assert result["usage"]["skeleton"]["calls"] == 1
    assert caplog.messages == []


@pytest.mark.parametrize("name", [name for name, reply in OTHER_FORMS.items() if reply.startswith("{")])
async def test_so_do_those_in_a_tools_arguments(endpoint: SimulatedEndpoint, name: str):
    write = SkeletonResponder(titles=["Light", "Water", "Soil"])
    respond = as_asked(OTHER_FORMS[name])
    endpoint.responder = lambda request: respond(request) if request.tools else write(request)
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(structured_mode="tools"))
    result = await graph.ainvoke({"question": "Why?"})
    assert [point["title"] for point in result["skeleton"]] == ["Light", "Water", "Soil"]
    assert result["usage"]["skeleton"]["calls"] == 1


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
@pytest.mark.parametrize(
    "reply", ['{"points": ["Light", "水", "Soil"]}', '```json\n{"points": ["Light", "水", "Soil"]}\n```']
)
async def test_so_does_the_json_that_was_asked_for_as_text_where_a_tool_was_offered(
    endpoint: SimulatedEndpoint, reply: str, dispatch: Any
):
    write = SkeletonResponder(titles=["Light", "水", "Soil"])
    endpoint.responder = lambda request: Reply(reply) if request.tools else write(request)
    options = SotOptions(structured_mode="tools", dispatch=dispatch)
    result = await create_sot_graph(endpoint.chat_model(), options=options).ainvoke({"question": "Why?"})
    assert [point["title"] for point in result["skeleton"]] == ["Light", "水", "Soil"]
    assert result["usage"]["skeleton"]["calls"] == 1


def test_importing_leaves_instructors_logger_alone():
    code = "import logging, sot_graph.llm.structured_output; print(logging.getLogger('instructor').level)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout == "0\n"


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_not_json_may_be_repaired_without_asking_again(
    mode: Any, endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.responder = lambda _: "a, b, c"
    parsed, text = await ask_structured(
        call(make_run(), endpoint.chat_model()),
        ASK,
        Names,
        mode=mode,
        max_reasks=1,
        repair=lambda reply: '{"names":["x","y","z"]}' if reply == "a, b, c" else None,
    )
    assert parsed.names == ["x", "y", "z"]
    assert text == "a, b, c"
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("code", "error"),
    [(401, openai.AuthenticationError), (400, openai.BadRequestError), (502, openai.InternalServerError)],
)
async def test_a_providers_error_comes_out_as_it_is_after_one_request(
    mode: Any, code: int, error: type[Exception], endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.faults = [Fault(Status(code))]
    task = make_run(max_retries=0)
    with pytest.raises(error):
        await ask_structured(call(task, endpoint.chat_model()), ASK, Names, mode=mode, max_reasks=3)
    assert len(endpoint.requests) == 1
    assert task.meter.usage["skeleton"]["calls"] == 1


@pytest.mark.parametrize("mode", MODES)
async def test_garbage_from_the_way_is_no_reply_to_ask_for_again(
    mode: Any, endpoint: SimulatedEndpoint, make_run: MakeRun
):
    endpoint.faults = [Fault(Garbage())]
    with pytest.raises(ValueError, match="Expecting value"):
        await ask_structured(call(make_run(), endpoint.chat_model()), ASK, Names, mode=mode, max_reasks=3)
    assert len(endpoint.requests) == 1


async def test_a_models_own_value_error_is_not_taken_for_an_invalid_reply(make_run: MakeRun):
    model = ScriptedChatModel(lambda _: ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        await ask_structured(call(make_run(), model), ASK, Names, mode="md_json", max_reasks=3)
    assert len(model.calls) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_what_the_caller_bound_to_the_model_goes_along(mode: Any, endpoint: SimulatedEndpoint, make_run: MakeRun):
    endpoint.responder = as_asked('{"names":["a","b","c"]}')
    model = endpoint.chat_model().bind(temperature=0.25).with_config(tags=["mine"])
    await ask_structured(call(make_run(), model, max_tokens=99), ASK, Names, mode=mode, max_reasks=0)
    assert endpoint.requests[0].request.raw["temperature"] == 0.25
    assert endpoint.requests[0].request.max_tokens == 99


async def test_md_json_works_with_any_model_and_finds_json_in_a_fence(make_run: MakeRun):
    model = ScriptedChatModel(lambda _: 'Sure:\n```json\n{"names": ["a", "b", "c"]}\n```\nDone.')
    parsed, _ = await ask_structured(call(make_run(), model), ASK, Names, mode="auto", max_reasks=0)
    assert parsed.names == ["a", "b", "c"]


def test_the_mode_fits_the_model(endpoint: SimulatedEndpoint):
    chat, scripted = endpoint.chat_model(), ScriptedChatModel(lambda _: "x")
    assert LoopModel(chat).fitting_mode == "json_schema"
    assert LoopModel(chat.bind(stop=["x"]).with_config(tags=["t"])).fitting_mode == "json_schema"
    assert LoopModel(scripted).fitting_mode == "md_json"
    assert LoopModel(chat.with_fallbacks([scripted])).fitting_mode == "md_json"


def test_a_model_that_takes_tools_gets_them():
    class WithTools(ScriptedChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return self.bind(tools=tools, **kwargs)

    assert LoopModel(WithTools(lambda _: "x")).fitting_mode == "tools"


def completion_of(message: AIMessage) -> Any:
    return to_completion(ModelReply.of(message))


def test_a_reply_becomes_a_completion():
    usage: Any = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    message = AIMessage("text", id="m1", usage_metadata=usage, response_metadata={"model_name": "m"})
    completion = completion_of(message)
    assert (completion.id, completion.model) == ("m1", "m")
    assert completion.choices[0].message.content == "text"
    assert completion.choices[0].message.tool_calls is None
    assert completion.usage.total_tokens == 5


def test_a_tool_call_becomes_one():
    message = AIMessage("", tool_calls=[{"name": "Names", "args": {"names": ["ä"]}, "id": "c1"}])
    completion = completion_of(message)
    tool_call = completion.choices[0].message.tool_calls[0]
    assert (tool_call.id, tool_call.function.name) == ("c1", "Names")
    assert completion.choices[0].message.content is None


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "stop"),
        ({"finish_reason": "length"}, "length"),
        ({"stop_reason": "max_tokens"}, "length"),
        ({"finish_reason": "MAX_TOKENS"}, "length"),
        ({"stop_reason": "end_turn"}, "stop"),
        ({"stop_reason": "tool_use"}, "stop"),  # there is no call in it
        ({"finish_reason": "content_filter"}, "content_filter"),
        ({"finish_reason": "something new"}, "stop"),
    ],
)
def test_every_providers_finish_reason_is_understood(metadata: dict[str, Any], reason: str):
    assert completion_of(AIMessage("x", response_metadata=metadata)).choices[0].finish_reason == reason


def test_content_blocks_become_text_and_a_refusal_stays_one():
    message = AIMessage([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    message.additional_kwargs["refusal"] = "no"
    completion = completion_of(message)
    assert completion.choices[0].message.content == "ab"
    assert completion.choices[0].message.refusal == "no"
