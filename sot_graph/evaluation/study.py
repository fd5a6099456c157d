"""`Study`: every question answered by two arms, judged in both orders, and kept: a kill costs next to nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.runnables import RunnableLambda

from sot_graph.batch.call_journal import PieceCache
from sot_graph.batch.line_file import LineFile
from sot_graph.errors import SotConfigError, SotError
from sot_graph.evaluation.arms import Arm, ArmAnswer, answer_of, make_graph
from sot_graph.evaluation.judge import ASPECTS, PROMPT_VERSION, Judge
from sot_graph.evaluation.statistics import settle
from sot_graph.evaluation.text_checks import check_answer
from sot_graph.llm.provider_errors import explain, meaning_of

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable
    from langsmith import Client

    from sot_graph.evaluation.question_sets import Question

_JOURNAL = "journal.jsonl"
_ROWS = "rows.jsonl"
_MOST_WITHOUT_VERDICT = 10
"""So many verdicts in a row that can't be had, and the judge is asked no more."""
_MOST_REFUSALS = 5
"""The same for refusals in a row. A single one may be of a text that a provider doesn't take."""
_ORDERS = ("forward", "backward")
"""Forward: the first arm's answer stands first."""
Key: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyPlan:
    """What a study asks, of whom, and where it keeps what comes of it. Two arms that are the same are refused."""

    out: Path
    questions: Sequence[Question]
    arms: tuple[Arm, Arm]
    """The one to compare with, such as the direct answer, and the one that is to be better."""
    model: str
    """The model's name, as a reader of the report knows it."""
    judge: str | None = None
    """The judge's name."""
    base_url: str | None = None
    """Where the model is. Answers of another server are others."""
    judge_base_url: str | None = None
    source: str = ""
    """Where the questions are from."""

    def __post_init__(self) -> None:
        first, second = self.arms
        if first.name == second.name:
            message = f"both arms are {first.name!r}: there is nothing to compare."
            raise SotConfigError(message)

    def check(self) -> None:
        """Raise `SotConfigError` if the folder is of another study, or an arm can't be made. Nothing is made there."""
        for arm in self.arms:
            make_graph(arm, RunnableLambda(str))
        if os.path.exists(self.out / _JOURNAL):
            self.open_journal().close()

    def open_journal(self) -> Journal:
        """The folder's journal; a new one gets its settings. It raises `SotConfigError` if it is of another study."""
        return Journal(self.out / _JOURNAL, {"model": self.model, "base_url": self.base_url})


def _not_by_link(path: str, flags: int) -> int:
    """Open a file, but not what a link leads to: the folder may be one that others may write to."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def write_anew(path: Path, text: str) -> None:
    """Write a file beside, and put it in the place of what is there, be that a link."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    beside.write_text(text, encoding="utf-8", errors="replace")
    os.replace(beside, path)


class Journal(LineFile):
    """Values under keys, a line `[key, value]` each; of several lines with the same key, the last one counts.

    The first line has the settings that a study must not change on the way.

    Raises:
        SotConfigError: The file is of a study with other settings, another study writes to it, or it is a link or
            something else.
    """

    owner, advice = "study", "Give each its own folder."
    kind, opener = list, staticmethod(_not_by_link)

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._kept: dict[Key, Any] = {}
        super().__init__(path, self._note)
        before = self.get(("settings",))
        if before is None:
            before = settings
            self.put(("settings",), before)
        if changed := [name for name in settings if before.get(name) != settings[name]]:
            self.close()
            name = changed[0]
            message = (
                f"{path.parent} holds a study with {name} {before.get(name)!r}, not {settings[name]!r}: "
                "name another folder, or the same settings."
            )
            raise SotConfigError(message)

    def get(self, key: Key) -> Any:
        """What is kept under a key; `None`: nothing."""
        return self._kept.get(key)

    def put(self, key: Key, value: Any) -> None:
        """Keep a JSON value. It is in the file when this returns: only the machine's own end can take it away."""
        self.append((key, value))

    def _note(self, line: Sequence[Any], _place: int) -> None:
        key, value = line
        self._kept[tuple(key)] = value


class Study:
    """Two arms over many questions. What has been paid for is in the journal, and is never asked for again.

    Args:
        plan: What is asked.
        model: The model that answers, where an arm names no other.
        judge: The model that compares; `None`: nothing is judged.

    Raises:
        SotConfigError: The folder is of another study, or can't be written to; an arm names a model that there is not.
    """

    def __init__(
        self, plan: StudyPlan, model: Runnable[Any, Any], judge: Runnable[Any, Any] | str | None = None
    ) -> None:
        self.plan = plan
        self.failure: SotConfigError | None = None
        """What ended the study, and would end it again: a wrong key, a model that there is not."""
        self.judge_failure = ""
        """Why the judge is asked no more; empty: it is. The answers go on without."""
        self._without_verdict = self._refusals = 0
        self._places = {question.id: place for place, question in enumerate(plan.questions)}
        try:
            plan.out.mkdir(parents=True, exist_ok=True)
            self._journal = plan.open_journal()
        except OSError as error:
            message = f"{plan.out} can't be written to: {error.strerror}."
            raise SotConfigError(message) from error
        try:
            # The skeleton and the points of answers that a kill cuts off. No arm is spared a call by another one.
            self._pieces = PieceCache(
                lambda question, key: self._journal.get(("piece", *question, key)),
                lambda question, key, value: self._journal.put(("piece", *question, key), value),
            )
            self._graphs = {arm.name: make_graph(arm, model, self._pieces) for arm in plan.arms}
            self._judge = None if judge is None else Judge(judge)
        except BaseException:
            self.close()
            raise

    async def row(self, question: Question) -> dict[str, Any]:
        """Everything about one question, as `rows.jsonl` has it. Asks whatever has not been asked yet.

        The arms answer one after the other, so that neither takes from the other's speed. Every other question begins
        with the second arm: what is warm by then helps both alike.
        """
        by_arm: dict[str, ArmAnswer] = {}
        is_even = self._places[question.id] % 2 == 0
        try:
            for arm in self.plan.arms if is_even else self.plan.arms[::-1]:
                by_arm[arm.name] = await self._answer(arm, question)
            answers = [by_arm[arm.name] for arm in self.plan.arms]
            verdicts, judge_error = await self._verdicts(question, answers)
        except SotConfigError as error:
            self.failure = error
            raise
        arms: list[dict[str, Any]] = []
        for arm, answer in zip(self.plan.arms, answers, strict=True):
            checks = None if answer["error"] else check_answer(question.text, answer["answer"], answer["expansions"])
            arms.append({"arm": arm.name, **answer, "checks": checks})
        preferences = None
        if verdicts is not None:
            pairs: Any = {aspect: [verdicts[order][aspect] for order in _ORDERS] for aspect in ASPECTS}
            preferences = {aspect: asdict(settle(*pair)) for aspect, pair in pairs.items()}
        return {
            "id": question.id,
            "question": question.text,
            "category": question.category,
            "expected_route": question.route,
            "arms": arms,
            "verdicts": verdicts,
            "preferences": preferences,
            "judge_error": judge_error,
        }

    async def _answer(self, arm: Arm, question: Question) -> ArmAnswer:
        key = ("answer", arm.name, *_key_of(question))
        kept: ArmAnswer | None = self._journal.get(key)
        if kept is not None:
            return kept
        self._pieces.begin(arm.name, *_key_of(question))
        answer = await answer_of(self._graphs[arm.name].ainvoke({"question": question.text}))
        if not answer["error"]:  # else it is asked for again when the study goes on
            self._journal.put(key, answer)
        return answer

    async def _verdicts(
        self, question: Question, answers: Sequence[ArmAnswer]
    ) -> tuple[dict[str, dict[str, str]] | None, str | None]:
        """The verdicts in both orders, or why the judge gave none. Neither: nobody judges, or an answer is missing."""
        if self._judge is None or any(answer["error"] for answer in answers):
            return None, None
        texts = [answer["answer"] for answer in answers]
        verdicts = await asyncio.gather(*map(partial(self._verdict, question), _ORDERS, (texts, texts[::-1])))
        found = {order: verdict for order, verdict in zip(_ORDERS, verdicts, strict=True) if isinstance(verdict, dict)}
        why = next((verdict for verdict in verdicts if isinstance(verdict, str)), None)
        return (found, None) if why is None else (None, why)

    async def _verdict(self, question: Question, order: str, texts: Sequence[str]) -> dict[str, str] | str:
        """A verdict, or why there is none: whatever is wrong with a judge, the answers are worth a report."""
        # Of these very texts: an answer that was written again is judged again.
        judged = _hash([self.plan.judge, *filter(None, [self.plan.judge_base_url]), PROMPT_VERSION, *texts])
        key = ("verdict", order, judged, *_key_of(question))
        verdict: dict[str, str] | None = self._journal.get(key)
        if verdict is not None:
            self._without_verdict = self._refusals = 0
            return verdict
        if self.judge_failure:
            return self.judge_failure
        assert self._judge is not None
        try:
            verdict = await self._judge.compare(question.text, *texts)
        except Exception as error:  # noqa: BLE001 - a judge's failure is no answer's
            self._without_verdict += 1
            self._refusals = self._refusals + 1 if meaning_of(error) == "callers" else 0
            if self._refusals >= _MOST_REFUSALS or self._without_verdict >= _MOST_WITHOUT_VERDICT:
                self.judge_failure = explain(error)
            return explain(error)
        self._without_verdict = self._refusals = 0
        self._journal.put(key, verdict)
        return verdict

    def save(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write `rows.jsonl`, in the order of the questions."""
        lines = [json.dumps(row, ensure_ascii=False) for row in sorted(rows, key=lambda row: self._places[row["id"]])]
        write_anew(self.plan.out / _ROWS, "\n".join([*lines, ""]))

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def _key_of(question: Question) -> tuple[str, str]:
    """An id alone may come to name another question in an edited file."""
    return question.id, _hash([question.text])


def _hash(values: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


async def evaluate_on_langsmith(
    study: Study, dataset: str, *, workers: int, client: Client | None = None
) -> list[dict[str, Any]]:
    """Run a study over the dataset that its questions are of, as an experiment of LangSmith, and give back its rows.

    It is one run a question with both arms below it, and the scores are feedback. What is in the study's journal
    already is not asked for again: the experiment is then made of what is kept.

    Raises:
        SotConfigError: As what ends a study.
        SotError: Questions could not be answered.
    """
    from langsmith import Client, aevaluate, get_current_run_tree

    client = client or Client()
    questions = {question.id: question for question in study.plan.questions}
    examples = [each for each in client.list_examples(dataset_name=dataset) if str(each.id) in questions]
    rows: list[dict[str, Any]] = []

    async def both_arms(inputs: dict[str, Any]) -> dict[str, Any]:
        traced = get_current_run_tree()  # only it says of which example the inputs are
        assert traced is not None
        assert traced.reference_example_id is not None
        row = await study.row(questions[str(traced.reference_example_id)])
        rows.append(row)
        return {"answers": {each["arm"]: each["answer"] for each in row["arms"]}, "row": row}

    def scores(outputs: dict[str, Any]) -> dict[str, Any]:
        return {"results": list(_feedback(outputs.get("row") or {}))}

    plan = study.plan
    results = await aevaluate(
        both_arms,
        data=examples,
        evaluators=[scores],
        experiment_prefix=f"sot_graph {plan.model}",
        metadata={"model": plan.model, "judge": plan.judge, "arms": [arm.name for arm in plan.arms]},
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
