"""The files in `benchmarks/results/`: one a scenario, with what it was measured on."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Result

__all__ = ["RESULTS", "Made", "load", "load_all", "save"]

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    "sot-graph",
    "langgraph",
    "langchain-core",
    "langchain-openai",
    "openai",
    "httpx2",
    "instructor",
    "pydantic",
)


@dataclass(frozen=True)
class Made:
    """When, where and how results were made."""

    command: str
    rounds: int

    def as_json(self) -> dict[str, Any]:
        """Plain values, without anything that names the machine."""
        return {
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "command": self.command,
            "rounds": self.rounds,
            "machine": _machine(),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in _PACKAGES},
        }


def _machine() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"system": platform.system(), "architecture": platform.machine(), "cores": cores, "processor": _processor()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def save(result: Result, made: Made, folder: Path = RESULTS) -> Path:
    """Write a scenario's file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.scenario}.json"
    figures = {
        group: {name: figure.as_json() for name, figure in members.items()} for group, members in result.groups.items()
    }
    plain = {
        "scenario": result.scenario,
        "made": made.as_json(),
        "settings": result.settings,
        "figures": figures,
    }
    path.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def load(path: Path) -> tuple[Result, dict[str, Any]]:
    """A scenario's file: what was measured, and how it was made."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    groups = {
        group: {name: Figure.from_json(figure) for name, figure in members.items()}
        for group, members in plain["figures"].items()
    }
    return Result(plain["scenario"], plain["settings"], groups), plain["made"]


def load_all(folder: Path = RESULTS) -> dict[str, Result]:
    """All scenarios of a folder, by name."""
    return {path.stem: load(path)[0] for path in sorted(folder.glob("*.json"))}
