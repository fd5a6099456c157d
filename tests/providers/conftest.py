"""What the suite makes beside its verdict: with PROVIDERS_PAGE set, the table in docs/providers.md."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.wires.cases import ProviderCases

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"
BEGIN, END = "<!-- providers: begin -->", "<!-- providers: end -->"
CASES = [name.removeprefix("test_") for name in vars(ProviderCases) if name.startswith("test_")]
_outcomes: dict[tuple[str, str], bool] = {}


@pytest.fixture(autouse=True)
def nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM asks for a list of prices when it is imported."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    found = re.search(r"providers/test_(\w+)\.py::\w+::test_(\w+)", report.nodeid)
    if found and found[2] in CASES and (report.when == "call" or report.failed):
        key = (found[1], found[2])
        _outcomes[key] = _outcomes.get(key, True) and report.passed


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("PROVIDERS_PAGE") and not hasattr(session.config, "workerinput"):
        text = PAGE.read_text(encoding="utf-8")
        start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
        PAGE.write_text(f"{text[:start]}\n{table()}\n{text[end:]}", encoding="utf-8")


def table() -> str:
    """Providers by cases: "yes", "no", or "n/a" where the provider has no such thing."""
    head = ["package", *(case.replace("_", " ") for case in CASES)]
    rows = [head, ["---"] * len(head)]
    for package in sorted({package for package, _ in _outcomes}):
        told = (_outcomes.get((package, case)) for case in CASES)
        rows.append([package, *("n/a" if good is None else "yes" if good else "no" for good in told)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
