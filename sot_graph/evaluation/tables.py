"""A page of tables, as HTML that fetches nothing and as Markdown: what a comparison of two arms is shown as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sot_graph.report.page import clean, with_bold


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and its interval on a line from 0 to 1, where the picture has them, and the place of "no difference"."""

    low: float
    value: float
    high: float
    neutral: float


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One line of a table."""

    name: str
    cells: Sequence[str]
    interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a heading. Rows with an interval are drawn beside their figures, in HTML."""

    title: str
    headings: Sequence[str]
    rows: Sequence[TableRow]
    note: str = ""
    """What a reader has to know to read it."""

    @property
    def is_drawn(self) -> bool:
        """Whether any row has an interval."""
        return any(row.interval for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is shown."""

    kicker: str
    title: str
    lede: str
    notices: Sequence[str] = ()
    tables: Sequence[Table] = ()
    texts: Sequence[tuple[str, str]] = field(default=())
    """Long texts with their headings, such as answers: folded up in HTML."""
    footer: str = ""


def render_html(page: Page) -> str:
    """One document, without scripts. All text is escaped."""
    return _templates(html=True).get_template("tables.html").render(page=page)


def render_markdown(page: Page) -> str:
    """The same in Markdown."""
    return _templates(html=False).get_template("tables.md").render(page=page)


@cache
def _templates(*, html: bool) -> Environment:
    def finalize(value: Any) -> Any:
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    templates = Environment(
        loader=ChoiceLoader([PackageLoader("sot_graph.evaluation", "."), PackageLoader("sot_graph.report", ".")]),
        autoescape=html,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["with_bold"] = with_bold
    templates.filters["cell"] = lambda text: " ".join(text.split()).replace("|", "\\|")
    return templates
