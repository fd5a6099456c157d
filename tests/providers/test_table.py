"""The table in docs/providers.md is the suite's own."""

from pathlib import Path

from tests.providers.conftest import BEGIN, CASES, END, PAGE

PACKAGES = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")} - {"table"}


def test_the_page_shows_every_package_and_case_and_none_that_fails():
    text = PAGE.read_text(encoding="utf-8")
    head, _, *rows = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip().splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")][1:] == [case.replace("_", " ") for case in CASES]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert {row[0] for row in cells} == PACKAGES
    assert {cell for row in cells for cell in row[1:]} <= {"yes", "n/a"}
