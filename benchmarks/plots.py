"""Light pictures of the results for the docs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Result
from benchmarks.results import RESULTS, load_all
from benchmarks.scenarios.hosted import FIRST, WHOLE

__all__ = ["IMAGES", "draw_plots"]

IMAGES = Path(__file__).parents[1] / "docs" / "images"
_COLOURS = {
    "direct": "#9aa5b1",
    "instructor+gather": "#d08c60",
    "plain gather": "#b5a642",
    "plain langgraph": "#8c6bb1",
    "sot_graph": "#2f6f9f",
    "sot_graph pipelined": "#1b998b",
    "limit": "#444444",
}
_DOTS_AN_INCH = 110


def draw_plots(folder: Path = RESULTS) -> list[Path]:
    """Draw what was measured."""
    import matplotlib as mpl

    mpl.use("Agg")
    results = load_all(folder)
    IMAGES.mkdir(parents=True, exist_ok=True)
    drawings = {"even": _bars, "speed-up": _speedup, "overhead": _overhead}
    return [draw(results[name]) for name, draw in drawings.items() if name in results]


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), dpi=_DOTS_AN_INCH, layout="constrained")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _save(figure: Any, name: str) -> Path:
    from matplotlib import pyplot

    path = IMAGES / f"{name}.png"
    # Without the library's version in it, the same results give the same file.
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)
    return path


def _bars(result: Result) -> Path:
    """Total and first words, side by side, with the computed limit as a line."""
    whole, first = result.groups[WHOLE], result.groups[FIRST]
    names = [name for name in whole if name != "limit"][::-1]
    figure, axes = _axes(8, 0.62 * len(names) + 1.2)
    for place, name in enumerate(names):
        colour = _COLOURS[name]
        axes.barh(place + 0.2, whole[name].median, 0.38, color=colour)
        axes.barh(place - 0.2, first[name].median, 0.38, color=colour, alpha=0.45)
        for offset, bar in ((0.2, whole[name]), (-0.2, first[name])):
            axes.text(bar.median + 0.06, place + offset, f"{bar.median:.2f}", va="center", fontsize=8)
    limit = whole["limit"].median
    axes.axvline(limit, color=_COLOURS["limit"], linestyle="--", linewidth=1)
    axes.text(limit + 0.05, len(names) - 0.45, f"limit {limit:.2f}", fontsize=8, color=_COLOURS["limit"])
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("seconds: whole answer (dark), first 40 characters in reading order (light)")
    axes.set_title("8 points of 60 tokens, 0.4 s to the first token, 60 tokens/s", fontsize=10, loc="left", pad=14)
    return _save(figure, "benchmark-hosted")


def _speedup(result: Result) -> Path:
    """How many times sooner than one sequential answer."""
    series: dict[str, dict[int, Figure]] = {}
    for group, members in result.groups.items():
        if group.startswith(WHOLE):
            points = int(group.split()[-2])
            for name, figure in members.items():
                if name != "direct":
                    series.setdefault(name, {})[points] = members["direct"].over(figure)
    figure, axes = _axes(6.5, 3.6)
    for name, values in series.items():
        axes.plot(list(values), [each.median for each in values.values()], "o-", color=_COLOURS[name], label=name)
    axes.axhline(1, color=_COLOURS["direct"], linewidth=1)
    _log_axis(axes, [points for values in series.values() for points in values])
    axes.set_xlabel("points of 60 tokens")
    axes.set_ylabel("times sooner than direct")
    axes.legend(frameon=False, fontsize=8)
    return _save(figure, "benchmark-speed-up")


def _overhead(result: Result) -> Path:
    """CPU time a point, by the number of points."""
    series: dict[str, dict[int, float]] = {}
    for group, members in result.groups.items():
        if group != "ratios":
            for name, figure in members.items():
                series.setdefault(name, {})[int(group.split()[-2])] = figure.median
    figure, axes = _axes(6.5, 3.6)
    for name, values in series.items():
        axes.plot(list(values), list(values.values()), "o-", color=_COLOURS[name], label=name)
    _log_axis(axes, [points for values in series.values() for points in values])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("points")
    axes.set_ylabel("CPU ms a point")
    axes.legend(frameon=False, fontsize=8)
    return _save(figure, "benchmark-overhead")


def _log_axis(axes: Any, points: list[int]) -> None:
    axes.set_xscale("log")
    ticks = sorted(set(points))
    axes.set_xticks(ticks, [f"{each:,}" for each in ticks])
    axes.minorticks_off()
