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
from collections.abc import Sequence

from sot_graph.testing.conditions import Physics
from sot_graph.testing.simulated_endpoint import SimulatedEndpoint
from sot_graph.testing.skeleton_responder import SkeletonResponder


class _Unread(SimulatedEndpoint):
    """An endpoint whose log nobody reads: it keeps few requests, since each has its body."""

    most_logged = 20


def main(endpoint_class: type[SimulatedEndpoint] = _Unread) -> None:
    """Serve until SIGINT or SIGTERM."""
    arguments = parse_arguments(sys.argv[1:])
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        physics = Physics(arguments.ttft, arguments.tps or math.inf)
        with endpoint_class(_responder(arguments), physics=physics, port=arguments.port) as endpoint:
            print(json.dumps({"base_url": endpoint.base_url}), flush=True)  # noqa: T201 - the command's output
            over.wait()
    except (OSError, OverflowError, ValueError) as error:
        print(f"python -m sot_graph.testing: {error}", file=sys.stderr)  # noqa: T201 - the command's message
        sys.exit(2)


def _responder(arguments: argparse.Namespace) -> SkeletonResponder:
    points: int = arguments.points
    low, _, high = (arguments.tokens or arguments.words).partition("-")
    reach = int(high or low) - int(low)
    lengths: list[int] = [int(low) + round(reach * place / max(1, points - 1)) for place in range(points)]
    random.Random(points).shuffle(lengths)  # mixed, and always the same

    def length(number: int) -> int:
        return lengths[(number - 1) % points]

    return SkeletonResponder(points, length, tokens_per_point=length if arguments.tokens else None)


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m sot_graph.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one (default)")
    parser.add_argument("--ttft", type=float, default=0.4, help="time to first token, in seconds (default: 0.4)")
    parser.add_argument("--tps", type=float, default=60.0, help="tokens/s of a stream; 0: instant (default: 60)")
    parser.add_argument("--points", type=int, default=8, help="points of a skeleton (default: 8)")
    parser.add_argument("--words", default="60", help="words of a point; 20-120: spread over the points (default: 60)")
    parser.add_argument("--tokens", default="", help="tokens of a point, four characters each, in place of its words")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
