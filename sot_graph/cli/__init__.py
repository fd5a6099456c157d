"""The command `sot-graph`. Importing this package imports nothing else of it: the command begins in `main`."""

import sys

__all__ = ["main"]


def main() -> None:
    """The entry point of the command."""
    try:
        from sot_graph.cli.app import app
        from sot_graph.cli.failing import exit_status, owns_process
        from sot_graph.cli.signals import end_at_sigterm
        from sot_graph.cli.streams import prepare_streams
        from sot_graph.cli.wording import say_warnings
        from sot_graph.local.leaving import ends_at_interrupt
    except KeyboardInterrupt:
        sys.exit(130)
    prepare_streams()
    end_at_sigterm()
    say_warnings()
    owns_process.set(True)
    ends_at_interrupt.set(True)
    sys.exit(exit_status(app))
