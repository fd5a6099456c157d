"""A page of tables, as HTML that fetches nothing and as Markdown: what a comparison of two arms is shown as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sot_graph.report.page import page_templates

_PACKAGES = ("sot_graph.evaluation", "sot_graph.report")
"""The second one has the style sheet."""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One line of a table."""

    name: str
    cells: Sequence[str]
    interval: tuple[float, float, float] | None = None
    """The figure between the ends of its interval, where 0.5 is "no difference". `cells[1]` is that in words."""


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
    texts: Sequence[tuple[str, str]] = ()
    """Long texts with their headings, such as answers: folded up in HTML."""
    footer: str = ""


def render_html(page: Page) -> str:
    """One document, without scripts. All text is escaped."""
    return page_templates(*_PACKAGES).get_template("tables.html").render(page=page)


def render_markdown(page: Page) -> str:
    """The same in Markdown."""
    return page_templates(*_PACKAGES, html=False).get_template("tables.md").render(page=page)
