"""The command `sot-graph`. Importing this package imports nothing else of it: the command begins in `main`."""

import sys

__all__ = ["main"]


def main() -> None:
    """The entry point of the command."""
    try:
        from sot_graph.cli.exit_codes import interrupt_at_sigterm, interrupted_status
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        interrupt_at_sigterm()
        status = _run()
    except KeyboardInterrupt:
        status = interrupted_status()
    sys.exit(status)


def _run() -> int:
    from sot_graph.cli.app import app
    from sot_graph.cli.exit_codes import exit_status, owns_process, print_warnings
    from sot_graph.cli.terminal import prepare_streams

    prepare_streams()
    print_warnings()
    owns_process.set(True)
    return exit_status(app)
