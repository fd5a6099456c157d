"""The tables of the docs, made of the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.contenders import SCRIPTS
from benchmarks.figures import Figure, Result
from benchmarks.scenarios.hosted import FIRST, WHOLE
from benchmarks.scenarios.retrieval import LATER
from benchmarks.targets import TARGETS, Target

__all__ = ["TABLES"]

Results = Mapping[str, Result]

_HOSTED = {
    "even": "8 points of 60",
    "uneven": "8 points of 20 to 120",
    "long": "8 points of 400",
    "four-at-once": "8 points of 60, four at once",
}
_SIGNIFICANT = 3


def number(value: float) -> str:
    """Three digits, and no more than that."""
    whole = int(abs(value))
    if whole >= 100:
        return f"{value:,.0f}"
    return f"{value:.{_SIGNIFICANT - (len(str(whole)) if whole else 0)}f}"


def _points(group: str) -> str:
    """The end of a group's name: how many points."""
    count = group.rsplit(", ", 1)[1]
    return "1 point" if count == "1 points" else count


def spread(figure: Figure) -> str:
    """The median, and in brackets from where to where the rounds went."""
    if len(figure.values) == 1:
        return number(figure.median)
    return f"{number(figure.median)} ({number(figure.low)} to {number(figure.high)})"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _targets(results: Results) -> str:
    rows = []
    for target in TARGETS:
        figure = target.find(results)
        if figure is None:
            continue
        verdict = "yes" if target.met_by(figure) else "**no**"
        rows.append([target.title, _bound(target), spread(figure), _allowed(target, results), verdict])
    return _table(["figure", "target", "measured", "the physics allow", "met"], rows)


def _bound(target: Target) -> str:
    return f"{'at least' if target.at_least else 'at most'} {target.bound:g}"


def _allowed(target: Target, results: Results) -> str:
    allowed = results[target.scenario].find(target.group, target.allowed) if target.allowed else None
    return number(allowed.median) if allowed is not None else ""


def _key(results: Results) -> str:
    """The few lines that the README has."""
    even = results["even"]
    rows = []
    for name, figure in even.groups[WHOLE].items():
        first = even.groups[FIRST].get(name)
        speed = even.groups[WHOLE]["direct"].over(figure)
        rows.append([_name(name), number(first.median) if first else "", number(figure.median), number(speed.median)])
    return _table(["", "first 40 characters, s", "whole answer, s", "`direct` / whole answer"], rows)


def _hosted(results: Results) -> str:
    shown = [each for each in _HOSTED if each in results]
    names = list(results[shown[0]].groups[WHOLE])
    rows = [[_name(name), *_both(results, shown, name)] for name in names]
    return _table(
        ["seconds to the first 40 characters / to the whole answer", *(_HOSTED[each] for each in shown)], rows
    )


def _both(results: Results, shown: Sequence[str], name: str) -> list[str]:
    cells = []
    for each in shown:
        whole, first = results[each].groups[WHOLE][name], results[each].groups[FIRST][name]
        cells.append(f"{number(first.median)} / {number(whole.median)}")
    return cells


def _opening(results: Results) -> str:
    return _members(
        results["opening"],
        [FIRST, WHOLE, "calls", "tokens written"],
        ["first 40 characters, s", "whole answer, s", "calls", "tokens written"],
    )


def _retrieval(results: Results) -> str:
    figures = [each for figure in (FIRST, WHOLE) for each in (figure, f"{figure}, {LATER}")]
    return _members(
        results["retrieval"], figures, ["first 40 characters, s", "later by, s", "whole answer, s", "later by, s"]
    )


def _speedup(results: Results) -> str:
    result = results["speed-up"]
    groups = {name: members for name, members in result.groups.items() if name.startswith(WHOLE)}
    names = [name for name in next(iter(groups.values())) if name != "direct"]
    rows = [
        [_points(group), *(number(members["direct"].over(members[name]).median) for name in names)]
        for group, members in groups.items()
    ]
    return _table(["`direct` / whole answer", *map(_name, names)], rows)


def _routing(results: Results) -> str:
    return _members(results["routing"], [WHOLE], ["seconds"])


def _cost(results: Results) -> str:
    rows = []
    cpu = results["cost"].groups["CPU a question"]
    for name, figure in cpu.items():
        ratios = [number(figure.over(cpu[script]).median) for script in SCRIPTS]
        rows.append([_name(name), spread(figure), number(1000 / figure.median), *ratios])
    over = [f"/ `{script}`" for script in SCRIPTS]
    return _table(["", "CPU ms a question", "questions a second on a core", *over], rows)


def _streaming(results: Results) -> str:
    members = results["cost"].groups["CPU of ten streamed points"]
    bare = next(iter(members.values()))
    rows = [[f"`{name}`", spread(figure), number(figure.over(bare).median)] for name, figure in members.items()]
    return _table(["", "CPU ms for 10 points of 60 tokens", "/ bare"], rows)


def _overhead(results: Results) -> str:
    groups = {name: members for name, members in results["overhead"].groups.items() if name != "ratios"}
    names = list(next(iter(groups.values())))
    rows = [[_points(group), *(spread(members[name]) for name in names)] for group, members in groups.items()]
    return _table(["CPU ms a point", *map(_name, names)], rows)


def _crowd(results: Results) -> str:
    groups = {name: members for name, members in results["crowd"].groups.items() if name != "ratios"}
    names = list(next(iter(groups.values())))
    rows = [[group, *(number(members[name].median) for name in names)] for group, members in groups.items()]
    return _table(["", *map(_name, names)], rows)


def _embedded(results: Results) -> str:
    rows = [
        [f"{group}: {name}", spread(figure)]
        for group, members in results["embedded"].groups.items()
        for name, figure in members.items()
    ]
    return _table(["", "median of the questions (lowest to highest)"], rows)


def _startup(results: Results) -> str:
    return _members(results["start-up"], ["seconds", "CPU seconds"], ["seconds", "CPU seconds"])


def _members(result: Result, groups: Sequence[str], headings: Sequence[str]) -> str:
    names = list(result.groups[groups[0]])
    rows = [[_name(name), *(spread(result.groups[group][name]) for group in groups)] for name in names]
    return _table(["", *headings], rows)


def _name(name: str) -> str:
    return "computed limit" if name == "limit" else f"`{name}`"


def made(plain: Mapping[str, Any]) -> str:
    """When and where, in a sentence."""
    machine = plain["machine"]
    processor = f" ({machine['processor']})" if machine["processor"] else ""
    return (
        f"Measured on {plain['date']} by `benchmarks/`, on {machine['cores']} cores{processor}, "
        f"{machine['system']} {machine['architecture']}, Python {plain['python']}."
    )


TABLES: dict[str, tuple[str, Callable[[Results], str]]] = {
    "targets": ("even", _targets),
    "key": ("even", _key),
    "hosted": ("even", _hosted),
    "opening": ("opening", _opening),
    "retrieval": ("retrieval", _retrieval),
    "speed-up": ("speed-up", _speedup),
    "routing": ("routing", _routing),
    "cost": ("cost", _cost),
    "streaming": ("cost", _streaming),
    "overhead": ("overhead", _overhead),
    "crowd": ("crowd", _crowd),
    "embedded": ("embedded", _embedded),
    "start-up": ("start-up", _startup),
}
"""By the name in the page's marks: the scenario that has to be there, and what makes the table."""
