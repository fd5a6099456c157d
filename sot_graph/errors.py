"""The errors of sot_graph, what is read from those of others, and checks of arguments that can't be right.

    SotError
    ├── SotConfigError (also a ValueError)   what the caller can fix: an argument, an option, a key, an input
    │   └── MissingExtraError                a package of an extra isn't installed (also an ImportError)
    └── ModelOutputError                     what a model did
        ├── SkeletonError                    no skeleton, or no answer
        ├── RoutingError                     the router failed and the caller asked to be told
        └── ExpansionError                   points that could not be written

`SotConfigError` is a `ValueError`, which LangGraph's default `retry_on` skips: trying again can't help. The
others are retried by LangGraph's own `RetryPolicy`, if a parent graph puts one on the node.

What providers call their errors stands here, and not in `llm/provider_errors.py`: redaction, a lower layer, has to know
which of an error's words decide about retries before it hides them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sot_graph.types import Expansion, Frame, Usage

__all__ = ["ExpansionError", "ModelOutputError", "RoutingError", "SkeletonError", "SotConfigError", "SotError"]

ErrorMeaning: TypeAlias = Literal["busy", "transient", "callers", "final"]
"""`busy`: the provider asks us to come back later. `transient`: the same call may well succeed in a moment. `callers`:
the caller can fix it (a key, a right, a name). `final`: nothing helps."""
UNPAID = (
    *("insufficient_quota", "billing_not_active", "billing_hard_limit_reached"),  # OpenAI
    *("billing_error", "exceeded_current_quota_error", "arrearage"),  # Anthropic, Moonshot, DashScope
    "allocationquota.freetieronly",  # DashScope
)
"""What providers call it that an account has no credit, or has reached its limit: it goes on once somebody pays."""
ERROR_CODES: Mapping[ErrorMeaning, tuple[str, ...]] = {
    "final": ("context_length_exceeded",),
    "callers": (
        *UNPAID,
        *("authentication_error", "permission_error", "invalid_api_key", "api_key_invalid", "unauthenticated"),
        *("permission_denied", "not_found_error", "model_not_found", "unrecognizedclientexception"),
        *("accessdeniedexception", "expiredtokenexception", "invalidsignatureexception", "resourcenotfoundexception"),
    ),
    "busy": (
        *("overloaded_error", "overloaded", "rate_limit_error", "rate_limit_exceeded", "too_many_requests"),
        *("resource_exhausted", "unavailable", "throttlingexception", "throttling", "serviceunavailableexception"),
        *("modelnotreadyexception", "engine_overloaded", "slow_down", "over_capacity", "service_unavailable"),
    ),
    "transient": (
        *("api_error", "server_error", "internal_server_error", "internal_error", "internal", "timeout_error"),
        *("internalserverexception", "modelstreamerrorexception", "modeltimeoutexception", "modelerrorexception"),
        *("deadline_exceeded", "vector_store_timeout", "provider_error", "upstream_error"),
    ),
}
"""What providers call an error in its data. The first that fits counts: a quota that is used up is a 429, too.
They say nothing of what was asked, so they stay where content is hidden: whether to try again is read from them."""
Phrase: TypeAlias = Literal[
    "empty reply",
    "malformed call",
    "no key",
    "bad header",
    "unpaid",
    "refuses forms",
    "refuses system",
    "other loop",
    "about tokens",
]
PHRASES: Mapping[Phrase, re.Pattern[str]] = {
    # LangChain's classes, of a reply in which nothing came.
    "empty reply": re.compile(
        "no data received|no generations found in stream|no generation chunks were returned", re.IGNORECASE
    ),
    # Gemini, of a reply that was to be a tool's call, and became none.
    "malformed call": re.compile("malformed_function_call", re.IGNORECASE),
    # Anthropic's client, in a TypeError.
    "no key": re.compile("authentication method", re.IGNORECASE),
    # aiohttp, h11 and servers, of a key that a header can't hold.
    "bad header": re.compile("control character detected in header|(?:illegal|invalid) header value", re.IGNORECASE),
    # Anthropic, in an ordinary refusal of the request's form.
    "unpaid": re.compile("credit balance is too low", re.IGNORECASE),
    "refuses forms": re.compile(
        r"response_?format|json_?schema|structured|tool|function.?call|grammar|no endpoints|requested parameters",
        re.IGNORECASE,
    ),
    # Providers, and the chat templates of open models such as Gemma.
    "refuses system": re.compile(
        r"system (?:role|message|prompt|instruction)s? (?:is |are )?not (?:supported|allowed)|does not support '?system"
        r"|developer instruction is not enabled|only user(?:,| and) assistant",
        re.IGNORECASE,
    ),
    # asyncio and HTTP clients, of a client that belongs to another event loop.
    "other loop": re.compile("different (?:event )?loop|event loop is closed", re.IGNORECASE),
    "about tokens": re.compile("token", re.IGNORECASE),
}
"""What is looked for in errors' messages to decide how to go on. Before one is hidden, what was found is noted."""
_NOTED_PHRASES = "sot_phrases"
"""The attribute of an error whose message is hidden: the phrases that stood in it."""
STATUS_IN_MESSAGE = re.compile(r" ?\((?:(?:code|status(?: code)?): ?|HTTP )(\d{3})\)")
_LONGEST_MESSAGE_READ = 4000
_LONGEST_VALUE = 80


def kind_of(value: object) -> str:
    """What a value is, without anything of what it holds: errors go into traces and logs."""
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(sorted(map(str, value))) or 'none'}"
    return "None" if value is None else f"a {type(value).__name__}"


def brief(value: object) -> str:
    """A value as Python writes it, cut where it is too long for a message that somebody is to read."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}… ({len(text):,} characters)"


class SotError(Exception):
    """Base class of every error that sot_graph raises on purpose."""


class SotConfigError(SotError, ValueError):
    """The caller can fix this: the message says what is wrong, where, and what to do."""


class MissingExtraError(SotConfigError, ImportError):
    """A package of an extra is not installed: an `ImportError` that the caller can fix."""


class ModelOutputError(SotError):
    """A model, or the connection to it, failed."""


class SkeletonError(ModelOutputError):
    """No skeleton could be had, and the question could not be answered directly either."""


class RoutingError(ModelOutputError):
    """The router failed, and the caller asked to be told instead of going on directly."""


class ExpansionError(ModelOutputError):
    """Points could not be written. Raised after every sibling has finished.

    Attributes:
        expansions: All expansions of the run, sorted by index, finished ones included.
        frame: Its introduction and the like, as far as they are written.
        answer: With `on_point_failure="mark"`, where no point could be written: the answer that says so in each
            one's place.
        usage: What the run has cost.
    """

    def __init__(self, message: str, expansions: Sequence[Expansion]) -> None:
        super().__init__(message)
        self.expansions = list(expansions)
        self.frame: Frame = {}
        self.answer = ""
        self.usage: Usage | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.expansions), self.__dict__

    @property
    def failed(self) -> list[Expansion]:
        """Those of `expansions` that are not `ok`."""
        return [expansion for expansion in self.expansions if expansion["status"] != "ok"]


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def field_of(holder: object, name: str) -> Any:
    """An attribute of an error of whoever's class; `None` if it has none, or can't say."""
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001  (one error is enough)
        return None


_ERROR_STATUS = range(400, 600)


def carried_status(error: BaseException) -> int | None:
    """The HTTP status that a provider's error carries as data, whoever's class it is, and wherever it keeps it.

    A status below 400 says nothing: some errors come within a reply that began well.
    """
    for link in causes_of(error):
        response = field_of(link, "response")
        if isinstance(response, Mapping):  # botocore's
            about = response.get("ResponseMetadata")
            codes = [about.get("HTTPStatusCode")] if isinstance(about, Mapping) else []
        else:
            holders = (link, response, field_of(link, "raw_response"))
            codes = [field_of(holder, "status_code") for holder in holders]
            if not type(link).__module__.startswith("aiohttp"):  # its parser numbers what it can't read
                codes += [field_of(link, name) for name in ("code", "status", "http_status")]
        codes += [body.get(name) for body in error_bodies(link) for name in ("code", "status")]
        for told in codes:
            code = int(told[:4]) if isinstance(told, str) and told.isdecimal() else told
            if isinstance(code, int) and code in _ERROR_STATUS:
                return code
    return None


def error_status(error: BaseException) -> int | None:
    """The HTTP status that an error carries as data, or else that it or its cause names in its message."""
    code = carried_status(error)
    if code is None:
        found = (STATUS_IN_MESSAGE.search(message_of(link)) for link in causes_of(error))
        code = next((int(match[1]) for match in found if match is not None), None)
    return code


def message_of(error: BaseException) -> str:
    """What an error says; nothing, if its class can't say it."""
    try:
        return str(error)[:_LONGEST_MESSAGE_READ]
    except Exception:  # noqa: BLE001
        return ""


def phrases_in(error: BaseException) -> frozenset[Phrase]:
    """Which of `PHRASES` stand in an error's message, or stood there before it was hidden."""
    noted: frozenset[Phrase] | None = field_of(error, _NOTED_PHRASES)
    if noted is not None:
        return noted
    message = message_of(error)
    return frozenset(name for name, each in PHRASES.items() if each.search(message))


def mentions(error: BaseException, phrase: Phrase) -> bool:
    """Whether this phrase stands in the message of an error, or of what caused it."""
    return any(phrase in phrases_in(link) for link in causes_of(error))


def note_phrases(error: BaseException) -> None:
    """Keep which phrases stand in an error's message, which is going to be hidden."""
    with suppress(Exception):  # an error of whoever's class may take no attributes
        setattr(error, _NOTED_PHRASES, phrases_in(error))


def error_bodies(link: BaseException) -> list[Mapping[str, Any]]:
    """What a provider says of an error as data: the body of its response, or what stands in a body of status 200."""
    args = field_of(link, "args")
    found = [field_of(link, name) for name in ("body", "details", "response")]
    found += args if isinstance(args, tuple) else ()
    bodies: list[Mapping[str, Any]] = []
    for body in found:
        if isinstance(body, Mapping):
            inner = body.get("error", body.get("Error"))
            bodies += [inner, body] if isinstance(inner, Mapping) else [body]
    return bodies


def check_kind(name: str, value: object, kind: type) -> None:
    """Raise `SotConfigError` unless what was given for an argument that may be left out is of this kind."""
    if value is not None and not isinstance(value, kind):
        message = f"{name} is {_what(value)}; pass {kind.__name__}(...)."
        raise SotConfigError(message)


def check_call(name: str, function: object, parameters: dict[str, Any], *, hint: str = "") -> None:
    """Raise `SotConfigError` unless what was given for an argument can be called with these parameters.

    `hint` says what else it may be.
    """
    shown = ", ".join(parameters)
    if inspect.isclass(function):
        message = f"{name} is {_what(function)}; pass an instance of it: {name}={function.__name__}(...)."
        raise SotConfigError(message)
    if not callable(function):
        message = f"{name} is {_what(function)}; it must be a callable of ({shown}){hint}."
        raise SotConfigError(message)
    try:
        inspect.signature(function).bind(*parameters.values())
    except TypeError as error:
        message = f"{name} can't be called as {name}({shown}): {error}."
        raise SotConfigError(message) from error
    except ValueError:  # a callable that hides its signature, such as some built-ins
        return


def check_returns_at_once(name: str, function: object, does: str) -> None:
    """Raise `SotConfigError` where what a call gives has to be awaited or read. `does` says what it must do."""
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if inspect.iscoroutinefunction(called) or inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        message = f"{name} is asynchronous, or a generator; it must be a plain function that {does}."
        raise SotConfigError(message)


def _what(value: object) -> str:
    return f"the class {value.__name__}" if inspect.isclass(value) else type(value).__name__
