"""`EndpointProcess`: the endpoint in a process of its own, so that its CPU time isn't the client's.

This file is also what that process runs: the command `python -m sot_graph.testing` with two routes more, by which its
log is read and forgotten, `GET /sim/log` and `POST /sim/reset`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from typing import Any, Self

from aiohttp import web

from sot_graph.testing import SimulatedEndpoint
from sot_graph.testing.__main__ import main

__all__ = ["ControlledEndpoint", "EndpointProcess"]

_CALL_SECONDS = 30.0
_STOP_SECONDS = 10.0


class EndpointProcess:
    """Runs a simulated endpoint in a process that ends with this one, however this one ends.

    Args:
        ttft: Time to first token, in seconds.
        tps: Tokens per second of each stream; 0: instant answers.
        points: Points of a skeleton.
        words: Words of a point; `"20-120"`: spread over the points.
        tokens: The same in tokens, in place of words.
        port: To listen at; 0: any free one.
        start_timeout: Seconds that it may take to start.

    Raises:
        RuntimeError: On entry: it didn't start; its own error output says why.

    Example:
        >>> with EndpointProcess(tps=0, ttft=0) as endpoint:
        ...     endpoint.log()["requests"]
        []
    """

    def __init__(
        self,
        *,
        ttft: float = 0.4,
        tps: float = 60.0,
        points: int = 8,
        words: int | str = 60,
        tokens: int | str = "",
        port: int = 0,
        start_timeout: float = 60.0,
    ) -> None:
        self.base_url = ""
        self._start_timeout = start_timeout
        flags = {"port": port, "ttft": ttft, "tps": tps, "points": points, "words": words, "tokens": tokens}
        self._command = [sys.executable, __file__]
        self._command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process, to measure it."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it and wait until it listens."""
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._process = process
        # A timer that ends the process ends the wait for its line too, on every platform.
        timer = threading.Timer(self._start_timeout, process.kill)
        timer.start()
        try:
            line = process.stdout.readline() if process.stdout else ""
        finally:
            timer.cancel()
            timer.join()
        if not line:
            self.stop()
            message = (
                f"The simulated endpoint did not start within {self._start_timeout:g} s (exit code "
                f"{process.returncode}). Its error output is above; on its own: {' '.join(self._command)}"
            )
            raise RuntimeError(message)
        self.base_url = str(json.loads(line)["base_url"])

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def log(self) -> dict[str, Any]:
        """`in_flight`, `max_in_flight` and `requests`, with the fields of `LoggedRequest`."""
        found: dict[str, Any] = self._call("log", None)
        return found

    def reset(self) -> None:
        """Forget the log."""
        self._call("reset", b"")

    def _call(self, path: str, body: bytes | None) -> Any:
        url = self.base_url.removesuffix("/v1") + f"/sim/{path}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, data=body, timeout=_CALL_SECONDS) as response:
            return json.load(response)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class ControlledEndpoint(SimulatedEndpoint):
    """A simulated endpoint whose log is read and forgotten over HTTP."""

    def application(self) -> web.Application:
        """The routes."""
        app = super().application()
        app.router.add_get("/sim/log", self._tell_log)
        app.router.add_post("/sim/reset", self._forget)
        return app

    async def _tell_log(self, _http: web.Request) -> web.Response:
        # Plain values; what the client sent, but for its key and headers.
        requests = [{**vars(entry), "request": dict(entry.request.raw)} for entry in self.requests]
        log = {"in_flight": self.in_flight, "max_in_flight": self.max_in_flight, "requests": requests}
        return web.json_response(log)

    async def _forget(self, _http: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})


def _end_with_stdin() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # to the process: its main thread waits, and only a signal wakes it


if __name__ == "__main__":
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    main(ControlledEndpoint)
