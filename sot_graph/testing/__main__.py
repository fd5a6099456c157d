"""`python -m sot_graph.testing`: a simulated endpoint that serves until it is killed.

It prints one line of JSON, `{"base_url": "..."}`. `GET /sim/log` gives the log, `POST /sim/reset` forgets it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import threading
from collections.abc import Callable

from sot_graph.testing.endpoint import SimulatedEndpoint
from sot_graph.testing.physics import Physics
from sot_graph.testing.skeleton import SkeletonResponder


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    arguments = _arguments()
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    endpoint = SimulatedEndpoint(
        SkeletonResponder(arguments.points, _of_point(arguments.words, arguments.points)),
        physics=Physics(arguments.ttft, arguments.tps or math.inf),
        api_keys=None if arguments.api_key is None else {arguments.api_key},
        port=arguments.port,
    )
    with endpoint:
        sys.stdout.write(json.dumps({"base_url": endpoint.base_url}) + "\n")
        sys.stdout.flush()
        if arguments.until_stdin_closes:
            threading.Thread(target=_watch_stdin, args=(over,), daemon=True).start()
        over.wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sot_graph.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one (default)")
    parser.add_argument("--ttft", type=float, default=0.4, help="time to first token, in seconds (default: 0.4)")
    parser.add_argument("--tps", type=float, default=60.0, help="tokens/s of a stream; 0: instant (default: 60)")
    parser.add_argument("--points", type=int, default=8, help="points of a skeleton (default: 8)")
    parser.add_argument(
        "--words", type=_words, default=60, help="words of a point; 20-120: spread over the points (default: 60)"
    )
    parser.add_argument("--api-key", help="the only key that is accepted (default: any)")
    parser.add_argument("--until-stdin-closes", action="store_true", help="also end when standard input does")
    return parser.parse_args()


def _words(text: str) -> int | tuple[int, int]:
    low, dash, high = text.partition("-")
    return (int(low), int(high)) if dash else int(low)


def _of_point(words: int | tuple[int, int], points: int) -> int | Callable[[int], int]:
    """The words of each point: all alike, or evenly spread, in an order that is mixed and always the same."""
    if isinstance(words, int):
        return words
    low, high = words
    spread = [low + round((high - low) * place / max(1, points - 1)) for place in range(points)]
    random.Random(points).shuffle(spread)
    return lambda number: spread[(number - 1) % points]


def _watch_stdin(over: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    over.set()


if __name__ == "__main__":
    main()
