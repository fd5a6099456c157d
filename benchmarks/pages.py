"""Filling the tables of the pages with the results, between marks such as `<!-- benchmarks: cost -->`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.results import RESULTS, load, load_all
from benchmarks.tables import TABLES, made

__all__ = ["PAGES", "blocks", "fill_pages", "filled"]

_ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/benchmarks.md",
    "docs/streaming.md",
    "docs/router.md",
    "docs/how-it-works.md",
    "docs/retrieval.md",
)
_BLOCK = re.compile(r"<!-- benchmarks: ([\w-]+) -->\n(.*?)<!-- end -->", re.DOTALL)


def blocks(folder: Path = RESULTS) -> dict[str, str]:
    """What belongs between the marks, by their name; only what was measured."""
    results = load_all(folder)
    texts = {name: make(results) for name, (scenario, make) in TABLES.items() if scenario in results}
    if "even" in results:
        texts["made"] = made(load(folder / "even.json")[1])
    return texts


def filled(page: str, texts: Mapping[str, str]) -> str:
    """A page with these texts between its marks. A name that isn't among them keeps what it has."""

    def fill(match: re.Match[str]) -> str:
        name, there = match[1], match[2]
        return f"<!-- benchmarks: {name} -->\n{texts[name]}\n<!-- end -->" if name in texts else match[0] or there

    return _BLOCK.sub(fill, page)


def fill_pages(folder: Path = RESULTS) -> list[Path]:
    """Write the pages whose figures have changed."""
    texts = blocks(folder)
    written = []
    for name in PAGES:
        path = _ROOT / name
        page = path.read_text(encoding="utf-8")
        new = filled(page, texts)
        if new != page:
            path.write_text(new, encoding="utf-8")
            written.append(path.relative_to(_ROOT))
    return written
