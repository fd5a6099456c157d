"""docs/architecture.md names a test for each promise of docs/reliability.md."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("architecture.md", "reliability.md"))


def test_every_test_that_the_page_names_exists():
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^(?:async )?def (test_\w+)", sources, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    assert named <= defined, named - defined


def test_every_promise_names_a_test():
    tables = re.findall(r"^\| promise .*\n\|-.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = "".join(tables).splitlines()
    assert rows
    assert [row for row in rows if "`test_" not in row] == []
