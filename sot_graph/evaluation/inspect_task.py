"""The study as an Inspect task: `sot-graph evaluate` runs it, and so does `inspect eval sot_graph/evaluation`.

Inspect runs the questions side by side, shows its log in its viewer and keeps every sample's scores. What has been
paid for is in the study's own journal, so that a run that is begun again asks for nothing twice.
"""

from __future__ import annotations

import atexit
import math
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from sot_graph.evaluation.arms import Arm
from sot_graph.evaluation.judge import ASPECTS
from sot_graph.evaluation.question_sets import read_questions
from sot_graph.evaluation.study import Study, StudyPlan
from sot_graph.evaluation.text_checks import CHECKS

_ROW = "row"
_until_exit = ExitStack()
atexit.register(_until_exit.close)


@task(name="evaluation")
def evaluation(
    questions: str = "own",
    model: str | None = None,
    base_url: str | None = None,
    judge: str | None = None,
    first: str = "direct",
    second: str = "skeleton",
    limit: int = 250,
    out: str = "runs/inspect",
) -> Task:
    """Two arms over a set of questions, for `inspect eval sot_graph/evaluation --model none -T model=NAME`.

    Args:
        questions: As `sot-graph evaluate` takes it.
        model: As `--model`.
        base_url: As `--base-url`.
        judge: As `--judge`.
        first: The arm to compare with.
        second: The other arm.
        limit: The most questions.
        out: The folder of the study's journal.
    """
    from sot_graph.default_model import choose_model

    choice = choose_model(model, base_url)
    plan = StudyPlan(
        out=Path(out),
        questions=read_questions(questions, limit),
        arms=(Arm.parse(first), Arm.parse(second)),
        model=choice.label,
        judge=judge,
        base_url=choice.base_url,
        source=questions,
    )
    # Open until the process ends: Inspect says when a task begins, but not when its process is done with it.
    study = _until_exit.enter_context(closing(Study(plan, _until_exit.enter_context(choice.opened()), judge)))
    return study_task(study)


def study_task(study: Study, on_row: Callable[[dict[str, Any]], None] | None = None) -> Task:
    """The Inspect task of a study. `on_row` is called with each question's row."""
    plan = study.plan
    samples = [
        Sample(input=each.text, id=each.id, metadata={"category": each.category, "route": each.route})
        for each in plan.questions
    ]
    return Task(
        dataset=MemoryDataset(samples, name=plan.source or "questions"),
        solver=_both_arms(study),
        scorer=[_form(study, on_row), *([_preference()] if plan.judge else [])],
        name="sot_graph",
        metadata={"model": plan.model, "judge": plan.judge, "arms": [arm.name for arm in plan.arms]},
    )


@solver
def _both_arms(study: Study) -> Solver:
    questions = {question.id: question for question in study.plan.questions}

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        row = await study.row(questions[str(state.sample_id)])
        state.metadata[_ROW] = row
        text = "\n\n".join(f"# {each['arm']}\n\n{each['answer']}" for each in row["arms"])
        state.output = ModelOutput.from_content("sot_graph", text)
        return state

    return solve


@scorer(name="form", metrics={"*": [mean(), stderr()]})
def _form(study: Study, on_row: Callable[[dict[str, Any]], None] | None) -> Scorer:
    """What is wrong with each arm's answers, by `CHECKS`."""

    async def score(state: TaskState, target: Target) -> Score:
        row = state.metadata[_ROW]
        if on_row is not None:
            on_row(row)
        checks = {each["arm"]: each["checks"] or {} for each in row["arms"]}
        return _score({f"{arm.name}: {name}": checks[arm.name].get(name) for arm in study.plan.arms for name in CHECKS})

    return score


@scorer(name="preference", metrics={"*": [mean(), stderr()]})
def _preference() -> Scorer:
    """The mean of an aspect is its net win rate; that of a conflict, the share of pairs with one."""

    async def score(state: TaskState, target: Target) -> Score:
        row = state.metadata[_ROW]
        figures: dict[str, float | None] = {}
        for aspect in ASPECTS:
            preference = (row["preferences"] or {}).get(aspect, {})
            figures |= {aspect: preference.get("outcome"), f"{aspect}: conflict": preference.get("conflict")}
        return _score(
            figures, "\n".join(f"{order}: {said['reason']}" for order, said in (row["verdicts"] or {}).items())
        )

    return score


def _score(figures: dict[str, float | None], explanation: str = "") -> Score:
    known = {name: math.nan if figure is None else float(figure) for name, figure in figures.items()}
    return Score(value=known, explanation=explanation or None)
