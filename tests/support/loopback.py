"""A plain HTTP server on this machine, for tests that look at what is asked of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class QuietHandler(BaseHTTPRequestHandler):
    """Writes no line for each request: tests read the requests."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve as long as the block lasts. Yields the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def refusing(status: int) -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything with this status. Yields its address, and what is asked of it: `"GET /path"`."""
    requests: list[str] = []

    class Handler(QuietHandler):
        def _answer(self) -> None:
            requests.append(f"{self.command} {self.path}")
            self.send_error(status)

        do_CONNECT = do_GET = do_POST = _answer

    with serving(Handler) as address:
        yield address, requests
