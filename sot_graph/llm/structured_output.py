"""Validated output from any LangChain chat model, by way of instructor.

instructor brings what it is best at: a Pydantic model as the reply, and asking again with what was wrong. The
calls themselves go through LangChain, so that callbacks, tracing and token counts work as everywhere else; an
instructor client on the raw OpenAI client would have none of these.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import instructor
from instructor.core import IncompleteOutputException, InstructorError
from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages, convert_to_openai_messages
from langchain_core.runnables import Runnable
from langchain_openai.chat_models.base import BaseChatOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessage, ChatCompletionMessageFunctionToolCall
from openai.types.chat.chat_completion_message_function_tool_call import Function
from pydantic import BaseModel

from sot_graph.errors import error_status
from sot_graph.llm.loop_bound_model import StructuredMode, innermost_model, rebound
from sot_graph.llm.provider_errors import explain, refuses_form
from sot_graph.llm.reply import WHOLE, WHY_WITHHELD, Ending
from sot_graph.usage import clean_counts

if TYPE_CHECKING:
    from sot_graph.llm.call import ModelCall
    from sot_graph.llm.reply import Reply

M = TypeVar("M", bound=BaseModel)

_MODES = {
    "json_schema": instructor.Mode.JSON_SCHEMA,
    "tools": instructor.Mode.TOOLS,
    "md_json": instructor.Mode.MD_JSON,
    "prompt": instructor.Mode.MD_JSON,  # read in the same way; what instructor adds to the prompt is left out
}
_FINISH_REASONS = {"length": "length", "filtered": "content_filter"}
_SERVER_FAILED = 500
_INVALID = "the reply is not the JSON that was asked for"
logger = logging.getLogger("sot_graph")


class InvalidOutputError(Exception):
    """The model's replies did not validate.

    Attributes:
        replies: What it wrote, one text an attempt.
        ending: How the last of them ended.
    """

    def __init__(self, replies: Sequence[str], ending: Ending | None = None) -> None:
        super().__init__("the model's replies do not have the form that was asked for")
        self.replies = list(replies)
        self.ending = ending


class SchemaRefusedError(Exception):
    """The provider takes no schema, or no tools, with this model.

    Attributes:
        mode: How the schema was handed over.
    """

    def __init__(self, mode: StructuredMode, reason: str) -> None:
        super().__init__(
            f"a request with structured_mode={mode!r} was refused, or broke the provider: {reason}; where "
            'SotOptions(structured_mode="md_json") or SotOptions(skeleton_format="list") is set, none is sent'
        )
        self.mode = mode


async def ask_structured(
    call: ModelCall,
    messages: Sequence[BaseMessage],
    schema: type[M],
    *,
    mode: StructuredMode,
    max_reasks: int,
    repair: Callable[[str], str | None] | None = None,
    on_text: Callable[[str], None] | None = None,
) -> tuple[M, str]:
    """Ask for a reply that validates as `schema`, again with the errors where it does not.

    Args:
        call: How to call the model.
        messages: The prompt.
        schema: The Pydantic model that the reply has to be.
        mode: How JSON is asked for. With `"prompt"` these messages ask for it, to the letter.
        max_reasks: How often an invalid reply is asked for again.
        repair: Given a reply, or the arguments of a tool's call, may give other JSON for it: saves asking again.
        on_text: Streams the replies: called with each piece as it comes.

    Returns:
        The validated reply, and its text to the letter as the model wrote it.

    Raises:
        InvalidOutputError: No attempt validated, or the reply was cut off or refused.
        SchemaRefusedError: The provider takes no request of this form. From then on such a model is asked in words.
        Exception: The provider's own, when the call itself failed.
    """
    if mode == "auto":
        mode = call.model.fitting_mode
    if mode in call.model.refused_modes:
        mode = "md_json"
    instructor_mode = _MODES[mode]
    exchange = _Exchange(call, max_reasks, repair, on_text, own_messages=messages if mode == "prompt" else None)
    create = instructor.patch(create=exchange.create, mode=instructor_mode)
    client = instructor.AsyncInstructor(client=None, create=create, mode=instructor_mode)
    with suppress(InstructorError):
        parsed = await client.chat.completions.create(
            model="",
            messages=convert_to_openai_messages(list(messages)),  # type: ignore[arg-type]
            response_model=_with_instructor_methods(schema),
            max_retries=max_reasks + 1,  # one more than may be asked: `create` ends the last one itself, silently
        )
        return parsed, exchange.replies[-1]
    # instructor wraps what has failed in an error of its own, whose text is 4 KB of prompts and replies, for every log
    # and trace to show. Raised out here, a provider's error keeps the cause that it came with.
    if exchange.failure is None:
        raise InvalidOutputError(exchange.replies, exchange.ending)
    if mode not in {"md_json", "prompt"} and refuses_form(exchange.failure):
        if error_status(exchange.failure) not in {None, _SERVER_FAILED}:  # which may pass: the next request will tell
            call.model.refused_modes.add(mode)
        raise SchemaRefusedError(mode, explain(exchange.failure)) from exchange.failure
    raise exchange.failure


@lru_cache(maxsize=128)
def _with_instructor_methods(schema: type[M]) -> type[M]:
    """Else instructor makes this class anew for every question."""
    return instructor.openai_schema(schema)


class _ExchangeEndedError(IncompleteOutputException):
    """There is nothing to ask again for: the call failed, its reply was withheld, or the last re-ask was invalid too.

    instructor hands this kind of error on at once. For every other one that ends a request it writes an ERROR line of
    its own into the log, with the reply in it; the graph says what it does about a failure itself, once.
    """


@dataclass(slots=True)
class _Exchange:
    """One `ask_structured`: instructor's request and re-asks as calls of a LangChain model."""

    call: ModelCall
    max_reasks: int
    repair: Callable[[str], str | None] | None
    on_text: Callable[[str], None] | None
    own_messages: Sequence[BaseMessage] | None = None
    """Our own messages, sent in place of those that instructor begins with. Instructor puts a schema first, and then
    the provider's prompt cache would not serve the points' calls."""
    first_request_length: int = 0
    """How many messages instructor's first request had. What comes behind them asks again."""
    replies: list[str] = field(default_factory=list)
    failure: Exception | None = None
    ending: Ending | None = None
    """How the last reply ended."""

    async def create(
        self,
        *,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        tool_choice: Any = None,
        response_format: dict[str, Any] | None = None,
        **_others: Any,
    ) -> ChatCompletion:
        """What instructor takes for OpenAI's `chat.completions.create`."""
        if self.replies:
            if len(self.replies) > self.max_reasks or self.ending in WHY_WITHHELD:
                raise _ExchangeEndedError
            self.call.trace.reject(_INVALID)
            logger.warning("%s: %s; asking again.", self.call.logged_as, _INVALID)
            messages = _without_empty_replies(messages)

        def prepare(runnable: Runnable[Any, Any]) -> Runnable[Any, Any]:
            if tools:
                choice = tool_choice["function"]["name"] if isinstance(tool_choice, dict) else tool_choice
                inner: Any = innermost_model(runnable)
                fitting = tools if isinstance(inner, BaseChatOpenAI) else _without_additional_properties(tools)
                # Below what the caller has bound: LangChain's own `bind_tools` of a binding forgets that.
                return rebound(runnable, inner.bind_tools(fitting, tool_choice=choice))
            if not response_format:
                return runnable
            if isinstance(schema := response_format.get("json_schema"), dict):
                # Enforced by grammar where the provider offers it: `json_schema` alone is only a hint.
                return runnable.bind(response_format={**response_format, "json_schema": {**schema, "strict": True}})
            return runnable.bind(response_format=response_format)

        try:
            self.first_request_length = self.first_request_length or len(messages)
            own, prompt = self.own_messages, convert_to_messages(messages)
            prompt = prompt if own is None else [*own, *prompt[self.first_request_length :]]
            reply = await self.call.ask(prompt, prepare=prepare, offers_tool=bool(tools), on_text=self.on_text)
        except Exception as error:
            self.failure = error
            raise _ExchangeEndedError from error
        completion = to_completion(reply)
        message = completion.choices[0].message
        self.ending = reply.ending
        if message.tool_calls:
            written = message.tool_calls[0].function.arguments  # type: ignore[union-attr]
        else:
            # Arguments that a token limit has cut off, or that are no JSON, are those of an invalid call.
            written = message.content or next((call["args"] or "" for call in reply.message.invalid_tool_calls), "")
        self.replies.append(written)
        repair = self.repair if reply.ending in WHOLE else None
        repaired = repair(written) if repair is not None and written else None
        # A model that is offered a tool may write what was asked for, as text.
        if repaired is not None and (repaired != written or (tools and not message.tool_calls)):
            _replace_content(message, repaired, tools)
        return completion


def _without_empty_replies(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same conversation for providers that refuse an empty message, or two of the user's in a row."""
    said: list[dict[str, Any]] = []
    skipped = False
    for message in messages:
        if message.get("role") == "assistant" and not (message.get("content") or message.get("tool_calls")):
            skipped = True
            continue
        before = said[-1] if said and skipped else {}
        if message.get("role") == before.get("role") == "user" and isinstance(before["content"], str):
            said[-1] = {**before, "content": f"{before['content']}\n\n{message['content']}"}
        else:
            said.append(message)
        skipped = False
    return said


def _replace_content(message: ChatCompletionMessage, json: str, tools: list[dict[str, Any]] | None) -> None:
    message.content = json
    if tools:  # where a tool's arguments are looked for, and the model wrote text
        function = Function(name=tools[0]["function"]["name"], arguments=json)
        message.tool_calls = [ChatCompletionMessageFunctionToolCall(id="repaired", type="function", function=function)]


def _without_additional_properties(schema: Any) -> Any:
    """A schema without `additionalProperties`, which some providers' classes warn of at every question."""
    if isinstance(schema, dict):
        return {
            key: _without_additional_properties(value) for key, value in schema.items() if key != "additionalProperties"
        }
    return [_without_additional_properties(each) for each in schema] if isinstance(schema, list) else schema


def to_completion(reply: Reply) -> ChatCompletion:
    """LangChain's reply as OpenAI's `ChatCompletion`, as far as instructor looks at it."""
    message: AIMessage = reply.message
    tool_calls = convert_to_openai_messages(message).get("tool_calls") or None
    finish_reason = _FINISH_REASONS.get(reply.ending or "stop") or ("tool_calls" if tool_calls else "stop")
    refusal = message.additional_kwargs.get("refusal")
    said = {"role": "assistant", "content": reply.text or None, "refusal": refusal, "tool_calls": tool_calls}
    counts = clean_counts(message.usage_metadata)
    read, written, both = counts["input_tokens"], counts["output_tokens"], counts["total_tokens"]
    return ChatCompletion.model_validate(
        {
            "id": message.id or "",
            "object": "chat.completion",
            "created": 0,
            "model": str(message.response_metadata.get("model_name", "")),
            "choices": [{"index": 0, "finish_reason": finish_reason, "message": said}],
            "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": both},
        }
    )
