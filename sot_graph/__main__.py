"""`python -m sot_graph`: the same as the command `sot-graph`."""

from sot_graph.cli import main

if __name__ == "__main__":
    main()
