"""The batch APIs of OpenAI and Anthropic: half the price, within a day."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sot_graph.errors import SotConfigError

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from sot_graph.batch.submission import SentBatch

_SKEW_SECONDS = 300.0
SUCCESS = 200
_OVER = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class BatchState:
    """How far a batch is, in the provider's words."""

    is_over: bool
    said: str
    problem: str = ""
    """Why the provider did nothing of it."""


class ProviderBatches(Protocol):
    """One provider's batches."""

    max_requests: int
    """Requests in one of them."""
    max_bytes: int
    """Of all their bodies together, as JSON."""

    def model(self, name: str, address: str) -> Runnable[Any, Any]:
        """The provider's chat model, which asks at this address."""

    def send(self, batch: SentBatch, requests: Iterator[tuple[str, Any]]) -> str:
        """Send requests, by their keys; returns the batch's id at the provider."""

    def find(self, batch: SentBatch, known: set[str]) -> str:
        """The id of a batch that may have been sent before this process; empty: the provider hasn't got it.

        `known` are the ids of other batches.
        """

    def state(self, batch_id: str) -> BatchState:
        """How far it is."""

    def results(self, batch_id: str) -> Iterator[tuple[str, int, Any]]:
        """Of a batch that is over: each request's key, and the status and body of its reply."""


class _OpenAIBatches(ProviderBatches):
    """OpenAI's, and those of servers that have them too."""

    max_requests = 50_000
    max_bytes = 180_000_000
    """A file may have 200 MB, with a key, a method and an address around each body."""

    def __init__(self, base_url: str | None) -> None:
        import openai

        try:
            self._client = openai.OpenAI(base_url=base_url)
        except openai.OpenAIError as error:
            message = "OpenAI's batches need a key: set OPENAI_API_KEY."
            raise SotConfigError(message) from error

    def model(self, name: str, address: str) -> Runnable[Any, Any]:
        from sot_graph.llm.resolve import resolve_model

        return resolve_model(name.removeprefix("openai:"), base_url=f"{address}/v1", api_key="replayed")

    def send(self, batch: SentBatch, requests: Iterator[tuple[str, Any]]) -> str:
        url: Literal["/v1/chat/completions"] = "/v1/chat/completions"
        with tempfile.TemporaryFile() as file:  # a batch may be larger than memory
            for key, body in requests:
                line = {"custom_id": key, "method": "POST", "url": url, "body": body}
                file.write(json.dumps(line).encode() + b"\n")
            file.seek(0)
            uploaded = self._client.files.create(file=("requests.jsonl", file), purpose="batch")
        made = self._client.batches.create(
            input_file_id=uploaded.id, endpoint=url, completion_window="24h", metadata={"sot_graph": batch.token}
        )
        return made.id

    def find(self, batch: SentBatch, known: set[str]) -> str:
        for each in self._client.batches.list(limit=100):
            if (each.metadata or {}).get("sot_graph") == batch.token and each.id not in known:
                return each.id
            if each.created_at < batch.sent_at - _SKEW_SECONDS:  # the newest come first
                break
        return ""

    def state(self, batch_id: str) -> BatchState:
        found = self._client.batches.retrieve(batch_id)
        counts = found.request_counts
        said = found.status if counts is None else f"{found.status}, {counts.completed:,} of {counts.total:,}"
        errors = (found.errors and found.errors.data) or []
        reasons = "; ".join(str(each.message) for each in errors)
        problem = (reasons or "it failed") if found.status == "failed" else ""
        return BatchState(found.status in _OVER, said, problem)

    def results(self, batch_id: str) -> Iterator[tuple[str, int, Any]]:
        found = self._client.batches.retrieve(batch_id)
        for file in filter(None, (found.output_file_id, found.error_file_id)):
            with self._client.files.with_streaming_response.content(file) as content:
                for text in content.iter_lines():
                    if text.strip():
                        line = json.loads(text)
                        response = line.get("response") or {}
                        status = response.get("status_code", 0)
                        body = response.get("body") if status else {"error": line.get("error")}
                        yield line["custom_id"], status, body


class _AnthropicBatches(ProviderBatches):
    """Anthropic's."""

    max_requests = 10_000
    max_bytes = 100_000_000
    """They may have ten times as many, and 256 MB, but go in one request that is held in memory."""

    def __init__(self, base_url: str | None) -> None:
        try:
            import anthropic
            import langchain_anthropic
        except ModuleNotFoundError as error:
            message = "Anthropic's batches need its package: pip install langchain-anthropic"
            raise SotConfigError(message) from error
        self._models: Any = langchain_anthropic
        self._client = anthropic.Anthropic(base_url=base_url)
        if not (self._client.api_key or self._client.auth_token):
            message = "Anthropic's batches need a key: set ANTHROPIC_API_KEY."
            raise SotConfigError(message)

    def model(self, name: str, address: str) -> Runnable[Any, Any]:
        made: Runnable[Any, Any] = self._models.ChatAnthropic(
            model=name.removeprefix("anthropic:"), base_url=address, api_key="replayed", max_retries=0
        )
        return made

    def send(self, batch: SentBatch, requests: Iterator[tuple[str, Any]]) -> str:
        made = self._client.messages.batches.create(
            requests=[{"custom_id": key, "params": body} for key, body in requests]
        )
        return str(made.id)

    def find(self, batch: SentBatch, known: set[str]) -> str:
        # These batches carry no name of ours: time and size tell which one it may be, and its results which one it is.
        keys = set(batch.keys)
        for each in self._client.messages.batches.list(limit=100):
            if each.created_at.timestamp() < batch.sent_at - _SKEW_SECONDS:
                break
            if _size(each.request_counts) != len(keys) or each.id in known:
                continue
            if each.processing_status != "ended" or all(key in keys for key, *_ in self.results(each.id)):
                return str(each.id)
        return ""

    def state(self, batch_id: str) -> BatchState:
        found = self._client.messages.batches.retrieve(batch_id)
        total = _size(found.request_counts)
        said = f"{found.processing_status}, {total - found.request_counts.processing:,} of {total:,}"
        return BatchState(found.processing_status == "ended", said)

    def results(self, batch_id: str) -> Iterator[tuple[str, int, Any]]:
        for each in self._client.messages.batches.results(batch_id):
            if each.result.type == "succeeded":
                yield each.custom_id, SUCCESS, each.result.message.model_dump(mode="json", exclude_unset=True)
            else:
                error = each.result.error.model_dump(mode="json") if each.result.type == "errored" else each.result.type
                yield each.custom_id, 0, {"type": "error", "error": {"type": "batch", "message": str(error)}}


def _size(counts: Any) -> int:
    return int(counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired)


PROVIDERS: Mapping[str, Callable[[str | None], ProviderBatches]] = {
    "openai": _OpenAIBatches,
    "anthropic": _AnthropicBatches,
}
"""By the provider's name: its batches at a base URL."""
