"""An arm of a study: one way to answer, with its settings; and what an answer by it took."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from sot_graph.errors import SotConfigError
from sot_graph.options import SotOptions, with_changes

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable
    from langgraph.cache.base import BaseCache


_WAYS = ("direct", "skeleton")
_MODELS = ("model", "skeleton_model")
_ROUTERS = ("draft", "learned", "model", "cascade")
_LEARNED = ("learned", "cascade")
"""Those that take weights of the caller's own: `learned:my-router.json`."""
_OPTIONS = frozenset(each.name for each in fields(SotOptions)) - {"stream", "review_skeleton"}


class ArmAnswer(TypedDict, total=False):
    """An answer, and what it took. Seconds, from the question on; `None` is what nobody told."""

    answer: str
    error: str | None
    """Why there is no answer."""
    route: str | None
    expansions: list[dict[str, Any]]
    seconds: float | None
    first_word: float | None
    """When the first word of the answer could be read."""
    input_tokens: int | None
    output_tokens: int | None
    calls: int | None
    estimated: bool
    """Whether some of the tokens are estimated, since the provider told none."""
    cost: float | None
    """In US dollars, where the prices of all its models are known."""
    resumed: bool
    """Whether some of it is kept from before a kill: then its times and tokens don't count."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to answer.

    Examples:
        >>> Arm.parse("skeleton,dispatch=pipelined,max_points=5").options
        {'dispatch': 'pipelined', 'max_points': 5}
    """

    name: str
    """As it was written on the command line."""
    way: str
    """`"direct"` or `"skeleton"`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of `SotOptions`."""
    router: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    """The names of other models than the study's, as `model` and `skeleton_model`."""

    @classmethod
    def parse(cls, text: str) -> Arm:
        """An arm from `way,key=value,...`. Keys are those of `SotOptions`, `router`, `model` and `skeleton_model`.

        Raises:
            SotConfigError: No such way or key, or a value that the option doesn't take.
        """
        way, *rest = (each.strip() for each in text.split(","))
        if way not in _WAYS:
            message = f"an arm begins with {' or '.join(_WAYS)}, such as skeleton,dispatch=pipelined; not with {way!r}."
            raise SotConfigError(message)
        settings: dict[str, Any] = {}
        for each in rest:
            key, is_given, value = each.partition("=")
            if not is_given or key not in {*_OPTIONS, *_MODELS, "router"}:
                known = ", ".join(("router", *_MODELS, *sorted(_OPTIONS)))
                message = f"the arm {text!r} has {each!r}, which is no key=value of: {known}."
                raise SotConfigError(message)
            settings[key] = value
            if key in _OPTIONS:
                with suppress(ValueError):  # a word needs no quotes
                    settings[key] = json.loads(value)
        if (router := settings.get("router")) is not None and way == "direct":
            message = f"the arm {text!r}: a router may answer by a skeleton; write skeleton,router={router}."
            raise SotConfigError(message)
        options = {key: settings[key] for key in settings if key in _OPTIONS}
        try:
            _options_of(options)
            make_router(router)
        except SotConfigError as error:  # which option of which arm it is, not which option of the command
            message = f"the arm {text!r}: {str(error).replace('SotOptions.', '')}"
            raise SotConfigError(message) from error
        return cls(text, way, options, router, {key: settings[key] for key in settings if key in _MODELS})


def _options_of(options: Mapping[str, Any]) -> SotOptions:
    # Streamed, or there would be no time of the first word.
    return with_changes(SotOptions(stream=True), options)


def make_graph(arm: Arm, model: Runnable[Any, Any], cache: BaseCache[Any] | None = None) -> Any:
    """The graph that answers by an arm: by the study's model, where the arm names no other.

    Raises:
        SotConfigError: A model that there is not.
    """
    from sot_graph.graph import create_sot_graph
    from sot_graph.routing.protocol import always_direct

    router = make_router(arm.router) or (always_direct if arm.way == "direct" else None)
    options, drafting = _options_of(arm.options), arm.models.get("skeleton_model")
    return create_sot_graph(
        arm.models.get("model", model), skeleton_model=drafting, options=options, router=router, cache=cache
    )


def check_router(name: str | None) -> None:
    """Raise `SotConfigError` if there is no router of this name. A file of weights isn't read."""
    kind, has_file, file = (name or "").partition(":")
    if name is not None and (kind not in _ROUTERS or (has_file and not (file and kind in _LEARNED))):
        known = ", ".join((*_ROUTERS, *(f"{each}:FILE" for each in _LEARNED)))
        message = f"router is one of {known}; not {name!r}."
        raise SotConfigError(message)


def make_router(name: str | None, model: Runnable[Any, Any] | None = None) -> Any:
    """A router by its name; `None` is none. All but the learned one ask `model`, or the graph's own.

    Raises:
        SotConfigError: There is no such router, or its file of weights can't be read.
    """
    check_router(name)
    kind, _, file = (name or "").partition(":")
    if kind in {"", "draft"}:  # a name that the graph knows itself
        return name
    from sot_graph.routing.learned_router import LearnedRouter

    learned = LearnedRouter(weights=file or None) if kind in _LEARNED else None
    if kind == "learned":
        return learned
    from sot_graph.routing.model_router import CascadeRouter, ModelRouter

    return ModelRouter(model) if learned is None else CascadeRouter(learned, ModelRouter(model))


async def answer_of(run: Awaitable[Mapping[str, Any]]) -> ArmAnswer:
    """What a run of an arm's graph says of its answer. If it fails, that is an answer with an error: others go on."""
    from sot_graph.llm.provider_errors import explain
    from sot_graph.report.metrics import measure_run

    try:
        result = await run
    except SotConfigError:  # a wrong key or model: every other question would fail, too
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this answer's
        return {"answer": "", "error": explain(error), "expansions": []}
    found = measure_run(result)
    keys = ("title", "text", "status", "truncated")
    return {
        "answer": found.answer,
        "error": None if found.answer.strip() else "the answer is empty",
        "route": found.route,
        "expansions": [{key: each.get(key) for key in keys} for each in result.get("expansions") or []],
        "seconds": found.total,
        "first_word": found.time_to_first_word,
        # A provider that reports no tokens reports none at all: an answer has some.
        "input_tokens": found.input_tokens or None,
        "output_tokens": found.output_tokens or None,
        "calls": found.calls,
        "estimated": found.estimated,
        "cost": None if found.unpriced else found.cost,
        "resumed": bool(found.cache_hits),
    }
