"""How the command's help is laid out, and with which status it ends where Typer has ideas of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from sot_graph.cli.process import discard_output, interrupted

_UNGROUPED = "Options"


class GroupedHelpCommand(TyperCommand):
    """Its help has options in groups, by their `rich_help_panel`. Typer itself groups them only with Rich's boxes."""

    allow_extra_args = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer, but says what to do about a question without quotes."""
        rest: list[str] = super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            ctx.fail(f"After the question there is more: {' '.join(ctx.args)!r:.200}. Put the question in quotes.")
        return rest

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


class CommandGroup(TyperGroup):
    """Typer ends with 1 where nobody reads a help to its end (`sot-graph --help | true`), and with 130 at SIGTERM."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As Typer, but says what to do about a question without a command."""
        if args and " " in args[0] and not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            ctx.fail(f'There is no such command. For a question: sot-graph ask "{args[0]:.200}"')
        return super().resolve_command(ctx, args)

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """As Typer, with the command's own exit statuses."""
        with _own_exit_statuses():
            return super().make_context(*arguments, **settings)

    def invoke(self, *arguments: Any, **settings: Any) -> Any:
        """As Typer, with the command's own exit statuses."""
        with _own_exit_statuses():
            return super().invoke(*arguments, **settings)


@contextmanager
def _own_exit_statuses() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        discard_output()
        raise typer.Exit from None
    except KeyboardInterrupt:
        raise typer.Exit(interrupted()) from None
