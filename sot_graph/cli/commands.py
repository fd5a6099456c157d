"""What Typer's commands do differently here: help in groups, and an end with the status that the command promises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["Command", "Commands"]

_UNGROUPED = "Options"


class Command(TyperCommand):
    """Its help has options in groups, by their `rich_help_panel`. Typer itself groups them only with Rich's boxes."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                group = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or _UNGROUPED
                groups.setdefault(group, []).append(record)
        for group in sorted(groups, key=_UNGROUPED.__eq__):  # -h stands at the end
            with formatter.section(group):
                formatter.write_dl(groups[group])


class Commands(TyperGroup):
    """Typer ends with 1 where nobody reads a help to its end (`sot-graph --help | true`), and with 130 at SIGTERM."""

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """As Typer."""
        with _ending_as_all_else():
            return super().make_context(*arguments, **settings)

    def invoke(self, *arguments: Any, **settings: Any) -> Any:
        """As Typer."""
        with _ending_as_all_else():
            return super().invoke(*arguments, **settings)


@contextmanager
def _ending_as_all_else() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        from sot_graph.cli.streams import drop_output

        drop_output()
        raise typer.Exit from None
    except KeyboardInterrupt:
        from sot_graph.cli.failing import interrupted

        raise typer.Exit(interrupted()) from None
