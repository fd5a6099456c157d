"""`StrictEndpoint`: a simulated endpoint that takes only the keys, models and features that it knows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from langchain_openai import ChatOpenAI

from sot_graph.errors import SotConfigError
from sot_graph.testing import ChatRequest
from sot_graph.testing.openai_wire import error_body
from tests.support.watched_endpoint import WatchedEndpoint

__all__ = ["StrictEndpoint"]

_FEATURES = frozenset({"tools", "json_schema", "json_object"})
_SHOWN_START, _SHOWN_END, _LONG_KEY = 3, 4, 16

_Rejection = tuple[int, dict[str, Any]] | None


@dataclass(eq=False, repr=False)
class StrictEndpoint(WatchedEndpoint):
    """A simulated endpoint that turns away what it doesn't know; it also lists its models.

    Args:
        api_keys: Keys that it accepts, others get 401; `None`: any, and none.
        models: Models that it knows, others get 404; `None`: any.
        supports: Of `"tools"`, `"json_schema"` and `"json_object"`, those that it knows; others get 400.

    Raises:
        SotConfigError: `supports` holds an unknown name.
    """

    api_keys: Collection[str] | None = field(default=None, kw_only=True)
    models: Collection[str] | None = field(default=None, kw_only=True)
    supports: Collection[str] = field(default=_FEATURES, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := sorted(set(self.supports) - _FEATURES):
            message = f"supports={unknown[0]!r} is not known; it may hold: {', '.join(sorted(_FEATURES))}."
            raise SotConfigError(message)

    def chat_model(self, **kwargs: Any) -> ChatOpenAI:
        """A `ChatOpenAI` that it doesn't turn away."""
        model = next(iter(sorted(self.models or ())), "simulated")
        api_key = next(iter(sorted(self.api_keys or ())), "test")
        return super().chat_model(**{"model": model, "api_key": api_key, **kwargs})

    def application(self) -> web.Application:
        """The routes."""
        app = super().application()
        app.router.add_get("/v1/models", self._list_models)
        return app

    def rejection(self, request: ChatRequest) -> _Rejection:
        """401 for a wrong key, 404 for an unknown model, 400 for what the server doesn't know."""
        return self._key_rejection(request) or self._model_rejection(request) or super().rejection(request)

    async def _list_models(self, http: web.Request) -> web.Response:
        if rejection := self._key_rejection(ChatRequest.received(b"", http.headers)):
            return web.json_response(rejection[1], status=rejection[0])
        names = sorted(self.models) if self.models is not None else ["simulated"]
        entries = [{"id": name, "object": "model", "created": 0, "owned_by": "sot_graph"} for name in names]
        return web.json_response({"object": "list", "data": entries})

    def _key_rejection(self, request: ChatRequest) -> _Rejection:
        key = request.api_key
        if self.api_keys is None or key in self.api_keys:
            return None
        # As OpenAI does it: the ends of a long key are shown, so callers must not pass the message on.
        shown = "*" * len(key)
        if len(key) >= _LONG_KEY:
            shown = key[:_SHOWN_START] + shown[_SHOWN_START:-_SHOWN_END] + key[-_SHOWN_END:]
        return 401, error_body(f"Incorrect API key provided: {shown}.", status=401, code="invalid_api_key")

    def _model_rejection(self, request: ChatRequest) -> _Rejection:
        if self.models is not None and request.model not in self.models:
            message = f"The model `{request.model}` does not exist or you do not have access to it."
            return 404, error_body(message, status=404, code="model_not_found", param="model")
        if request.raw.get("n") not in (None, 1):
            message = "This server gives one choice only: 'n' must be 1."
            return 400, error_body(message, status=400, param="n")
        wanted = request.response_format.get("type", "text")
        if wanted not in {"text", *self.supports}:
            message = f"This server does not support the response_format '{wanted}'."
            return 400, error_body(message, status=400, param="response_format")
        if request.tools and "tools" not in self.supports:
            message = "This server does not support the parameter 'tools'."
            return 400, error_body(message, status=400, param="tools")
        return None
