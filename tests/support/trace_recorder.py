"""`TraceRecorder`: stands where LangSmith would, and takes what its real client sends."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Self

import zstandard

from tests.support.loopback import QuietHandler, serving
from tests.support.recorded_runs import RecordedRun, Runs

if TYPE_CHECKING:
    from langsmith import Client

__all__ = ["TraceRecorder"]

_INFO = {
    "version": "0.0.0",
    "instance_flags": {"zstd_compression_enabled": True},
    "batch_ingest_config": {
        "use_multipart_endpoint": True,
        "scale_up_qsize_trigger": 1000,
        "scale_up_nthreads_limit": 16,
        "scale_down_nempty_trigger": 4,
        "size_limit": 100,
        "size_limit_bytes": 20_971_520,
    },
}
_LONGEST_HOLD = 120.0


class TraceRecorder:
    """A local end for LangSmith's client: what is traced is read as a tree, or as the bytes that were sent.

    Args:
        status: What it answers with: 401, 429 and 500 are how a LangSmith that doesn't want the traces answers.
        body: Sent in place of a proper answer: what no client expects.
        replies: What it has by the paths that ask for it, such as `{"/datasets": [...]}`: of other paths, nothing.

    Example:
        >>> from langchain_core.tracers import LangChainTracer
        >>> from sot_graph import create_sot_graph
        >>> from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought
        >>> graph = create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought(["Seed", "Soil", "Sun"])))
        >>> with TraceRecorder() as recorder:
        ...     tracer = LangChainTracer(client=recorder.client())
        ...     _ = graph.invoke({"question": "How do plants grow?"}, {"callbacks": [tracer]})
        ...     names = [run.name for run in recorder.root().children]
        >>> names
        ['draft_skeleton', 'expand 1: Seed', 'expand 2: Soil', 'expand 3: Sun', 'join']
    """

    def __init__(
        self, *, status: int = 200, body: bytes | None = None, replies: Mapping[str, Any] | None = None
    ) -> None:
        self.status = status
        self.body = body
        self.replies = replies or {}
        self._changed = threading.Condition()
        self._open = threading.Event()
        self._open.set()
        self._runs = Runs()
        self._bodies: list[bytes] = []
        self._paths: list[str] = []
        self._clients: list[Client] = []
        self._address = ""

    @property
    def url(self) -> str:
        """For `LANGSMITH_ENDPOINT`."""
        assert self._address
        return self._address

    @property
    def environment(self) -> dict[str, str]:
        """What a process is given so that it traces to here."""
        return {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": self.url, "LANGSMITH_API_KEY": "recorded"}

    @property
    def requests(self) -> list[str]:
        """Method and path of every request, in order of arrival."""
        with self._changed:
            return list(self._paths)

    @property
    def traffic(self) -> bytes:
        """Every body that came, unpacked: to look for what must not be there."""
        self._flush()
        with self._changed:
            return b"\n".join(self._bodies)

    @property
    def runs(self) -> list[RecordedRun]:
        """Every run that came, in the order of the answers."""
        self._flush()
        with self._changed:
            return self._runs.all()

    @property
    def feedback(self) -> list[dict[str, Any]]:
        """Every score that came, in order of arrival."""
        self._flush()
        with self._changed:
            return self._runs.feedback

    def roots(self) -> list[RecordedRun]:
        """The traces, in the order of their beginning."""
        self._flush()
        with self._changed:
            return list(self._runs.roots())

    def root(self) -> RecordedRun:
        """The only trace.

        Raises:
            LookupError: There is none, or several.
        """
        roots = self.roots()
        if len(roots) != 1:
            trees = "\n".join(root.as_text() for root in roots)
            message = f"There are {len(roots)} traces, not one.\n{trees}"
            raise LookupError(message)
        return roots[0]

    def client(self, **settings: Any) -> Client:
        """LangSmith's own client, sending to here. It is closed with the recorder.

        Args:
            **settings: Of `langsmith.Client`, such as `hide_inputs=True`.
        """
        from langsmith import Client

        client = Client(**{"api_url": self.url, "api_key": "recorded", **settings})
        self._clients.append(client)
        return client

    def wait_for(self, predicate: Callable[[], Any], timeout: float = 10.0) -> Any:
        """Block until a predicate is true; it is asked again after every request.

        Raises:
            TimeoutError: It never was, within so many seconds.
        """
        with self._changed:
            result = self._changed.wait_for(predicate, timeout)
        if not result:
            message = f"Nothing of the kind within {timeout:g} s. Requests: {', '.join(self._paths) or 'none'}."
            raise TimeoutError(message)
        return result

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Take every request and answer none until the block ends: a LangSmith that hangs."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def _flush(self) -> None:
        for client in self._clients:
            client.flush()
        # The client's threads may send a run's end before its beginning.
        with self._changed:
            self._changed.wait_for(lambda: all(run.posts for run in self._runs.all()), timeout=5.0)

    def _take(self, method: str, path: str, kind: str, body: bytes) -> None:
        with self._changed:
            self._paths.append(f"{method} {path}")
            self._bodies.append(body)
            if path.endswith("/runs/multipart"):
                for name, content in _parts(body, kind.partition("boundary=")[2].strip('"')):
                    self._runs.take_part(name, content)
            elif path.endswith("/runs/batch"):
                for operation, runs in json.loads(body).items():
                    for run in runs:
                        self._runs.take(operation, run["id"], run)
            elif method == "POST" and path.endswith("/feedback"):
                self._runs.feedback.append(json.loads(body))
            elif method == "POST" and path.endswith("/runs"):
                run = json.loads(body)
                self._runs.take("post", run["id"], run)
            elif method == "PATCH":
                self._runs.take("patch", path.rpartition("/")[2], json.loads(body))
            self._changed.notify_all()

    def start(self) -> None:
        """Listen."""
        self._serving = serving(_handler_of(self))
        self._address = self._serving.__enter__()

    def stop(self) -> None:
        """Close its clients, and listen no more."""
        self._open.set()
        while self._clients:
            self._clients.pop().close()
        if self._address:
            self._address = ""
            self._serving.__exit__(None, None, None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def _handler_of(recorder: TraceRecorder) -> type[BaseHTTPRequestHandler]:
    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = _unchunked(self.rfile)
            if self.headers.get("Content-Encoding") == "zstd":
                body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
            recorder._take(self.command, self.path, self.headers.get("Content-Type", ""), body)
            recorder._open.wait(_LONGEST_HOLD)
            reply = recorder.body
            if reply is None:
                known = {"/info": _INFO, **recorder.replies} if recorder.status == HTTPStatus.OK else {}
                reply = json.dumps(known.get(self.path.partition("?")[0], {})).encode()
            try:
                self.send_response(recorder.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)
            except ConnectionError:
                self.close_connection = True

        do_GET = do_POST = do_PATCH = _answer

    return Handler


def _unchunked(stream: Any) -> bytes:
    body = b""
    while size := int(stream.readline().split(b";")[0], 16):
        body += stream.read(size)
        stream.readline()
    stream.readline()
    return body


def _parts(body: bytes, boundary: str) -> Iterator[tuple[str, bytes]]:
    """The names and contents of a multipart body's parts."""
    for part in body.split(b"--" + boundary.encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0]
        yield name.decode(), content.removesuffix(b"\r\n")
