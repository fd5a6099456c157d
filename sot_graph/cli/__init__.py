"""The command `sot-graph`. Importing this package imports nothing else of it: the command begins in `main`."""

import sys

__all__ = ["main"]


def main() -> None:
    """The entry point of the command."""
    try:
        from sot_graph.cli.signals import end_at_sigterm, interrupted_status
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        end_at_sigterm()
        status = _run()
    except KeyboardInterrupt:
        status = interrupted_status()
    sys.exit(status)


def _run() -> int:
    from sot_graph.cli.app import app
    from sot_graph.cli.failing import exit_status, owns_process
    from sot_graph.cli.streams import prepare_streams
    from sot_graph.cli.wording import say_warnings
    from sot_graph.local.leaving import ends_at_interrupt

    prepare_streams()
    say_warnings()
    owns_process.set(True)
    ends_at_interrupt.set(True)
    return exit_status(app)
