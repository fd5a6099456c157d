"""The same study as an experiment of LangSmith: one run a question with both arms below it, the scores as feedback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from langsmith import Client, aevaluate, get_current_run_tree

from sot_graph.errors import SotConfigError, SotError
from sot_graph.evaluation.question_sets import questions_of_examples

if TYPE_CHECKING:
    from sot_graph.evaluation.study import Study

_ROW = "row"


async def evaluate_on_langsmith(
    study: Study, dataset: str, *, workers: int, client: Client | None = None
) -> list[dict[str, Any]]:
    """Run a study over a dataset's examples as an experiment, and give back its rows.

    What is in the study's journal already is not asked for again: the experiment is then made of what is kept.

    Args:
        study: Its questions are those of the dataset.
        dataset: The dataset's name.
        workers: Questions at once.
        client: LangSmith's; by default one of the environment's.

    Raises:
        SotConfigError: LangSmith refuses the key, or has no such dataset.
    """
    client = client or Client()
    try:
        examples = list(client.list_examples(dataset_name=dataset))
    except Exception as error:
        message = f"LangSmith doesn't give the dataset {dataset!r}: {error}"
        raise SotConfigError(message) from error
    wanted = {question.id for question in study.plan.questions}
    asked = zip(examples, questions_of_examples(examples, dataset), strict=True)
    questions = {example.id: question for example, question in asked if question.id in wanted}
    examples = [example for example in examples if example.id in questions]
    rows: list[dict[str, Any]] = []

    async def both_arms(inputs: dict[str, Any]) -> dict[str, Any]:
        traced = get_current_run_tree()  # only it says of which example the inputs are
        assert traced is not None
        assert traced.reference_example_id is not None
        row = await study.row(questions[traced.reference_example_id])
        rows.append(row)
        return {"answers": {each["arm"]: each["answer"] for each in row["arms"]}, _ROW: row}

    def scores(outputs: dict[str, Any]) -> dict[str, Any]:
        return {"results": list(_feedback(outputs.get(_ROW) or {}))}

    plan = study.plan
    about = {"model": plan.model, "judge": plan.judge, "arms": [arm.name for arm in plan.arms]}
    results = await aevaluate(
        both_arms,
        data=examples,
        evaluators=[scores],
        experiment_prefix=f"sot_graph {plan.model}",
        metadata=about,
        max_concurrency=workers,
        client=client,
    )
    async for _ in results:
        pass
    client.flush()
    if study.failure is not None:
        raise study.failure
    if len(rows) < len(examples):
        message = f"{len(examples) - len(rows)} questions could not be answered. The same command goes on."
        raise SotError(message)
    return rows


def _feedback(row: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for aspect, preference in (row.get("preferences") or {}).items():
        yield {"key": f"net_{aspect}", "score": preference["outcome"]}
        yield {"key": f"conflict_{aspect}", "score": float(preference["conflict"])}
    for each in row.get("arms", ()):
        for key in ("seconds", "first_word", "input_tokens", "output_tokens", "cost"):
            if each.get(key) is not None:
                yield {"key": f"{each['arm']} {key}", "score": each[key]}
        for name, figure in (each["checks"] or {}).items():
            if figure is not None:
                yield {"key": f"{each['arm']} {name}", "score": figure}
