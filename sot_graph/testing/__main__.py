"""`python -m sot_graph.testing`: a simulated endpoint that serves until it is killed.

It prints one line of JSON, `{"base_url": "..."}`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from sot_graph.testing.faults import Physics
from sot_graph.testing.simulated_endpoint import SimulatedEndpoint
from sot_graph.testing.skeleton_responder import SkeletonResponder


def main(endpoint_class: type[SimulatedEndpoint] = SimulatedEndpoint) -> None:
    """Serve until SIGINT or SIGTERM."""
    arguments = parse_arguments(sys.argv[1:])
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    endpoint = endpoint_class(
        SkeletonResponder(arguments.points, _words_of(arguments.words, arguments.points)),
        physics=Physics(arguments.ttft, arguments.tps or math.inf),
        port=arguments.port,
    )
    with endpoint:
        sys.stdout.write(json.dumps({"base_url": endpoint.base_url}) + "\n")
        sys.stdout.flush()
        over.wait()


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m sot_graph.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one (default)")
    parser.add_argument("--ttft", type=float, default=0.4, help="time to first token, in seconds (default: 0.4)")
    parser.add_argument("--tps", type=float, default=60.0, help="tokens/s of a stream; 0: instant (default: 60)")
    parser.add_argument("--points", type=int, default=8, help="points of a skeleton (default: 8)")
    parser.add_argument("--words", default="60", help="words of a point; 20-120: spread over the points (default: 60)")
    return parser.parse_args(words)


def _words_of(words: str, points: int) -> Callable[[int], int]:
    """The words of each point: evenly spread, in an order that is mixed and always the same."""
    low, _, high = words.partition("-")
    reach = int(high or low) - int(low)
    spread = [int(low) + round(reach * place / max(1, points - 1)) for place in range(points)]
    random.Random(points).shuffle(spread)
    return lambda number: spread[(number - 1) % points]


if __name__ == "__main__":
    main()
