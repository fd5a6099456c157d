"""`review_skeleton`: somebody approves, edits or rejects the skeleton before anything is written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langgraph.errors import GraphInterrupt
from langgraph.types import Overwrite, interrupt

from sot_graph.errors import SotConfigError, kind_of
from sot_graph.nodes.announcements import announce_skeleton
from sot_graph.nodes.question_input import kept_expansions
from sot_graph.prompts.messages import clean_text, numbered_list
from sot_graph.skeleton.points import given_points
from sot_graph.streaming.live_message import begin_live_message

if TYPE_CHECKING:
    from sot_graph.nodes.graph_node import Update
    from sot_graph.run import RunContext
    from sot_graph.state import SotState
    from sot_graph.types import SkeletonPoint

_HOW = (
    'Resume with Command(resume=...) of True or "approve"; of a list of titles or points, as they are to be; or of '
    '{"reject": "what is wrong with it"}.'
)
_LONGEST_COMMENT = 2000
_ACTION = "write_answer"
_MESSAGE = "The answer will be written along these points. Approve them, edit their titles, or say what is wrong."
_ANOTHER = "Draft another skeleton."


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reviewer said."""

    points: list[SkeletonPoint] | None = None
    """The skeleton as it is to be; `None`: as it is."""
    comment: str = ""
    """Why it is rejected; empty: it isn't."""


async def review_skeleton(state: SotState, run: RunContext) -> Update:
    """Stop until somebody has said what they think of the skeleton.

    The interrupt's value is `{"type": "sot.review", "question", "points", "how"}`, and beside that a request in the
    form of LangChain's `HumanInTheLoopMiddleware`, which chat pages know how to answer.
    """
    titles, question = "\n".join(point["title"] for point in state["skeleton"]), state["run_facts"]["question_text"]
    decisions = ["approve", "edit", "reject"]
    action = {"name": _ACTION, "args": {"titles": titles}, "description": f"Write this answer?\n\n{question}"}
    try:
        answer = _latest_answer(
            {
                "type": "sot.review",
                "question": question,
                "points": state["skeleton"],
                "how": _HOW,
                "message": _MESSAGE,
                "action_requests": [action],
                "review_configs": [{"action_name": _ACTION, "allowed_decisions": decisions}],
            }
        )
    except GraphInterrupt as interrupted:
        raise _ReviewPending(*interrupted.args) from None
    verdict = read_verdict(answer, state["skeleton"])
    if verdict.comment:
        return {"review_comment": verdict.comment}
    points, kept, frame = state["skeleton"], state["expansions"], state.get("frame")
    update: Update = {"route_reason": "the skeleton was approved"}
    if verdict.points is not None and verdict.points != points:
        points = verdict.points
        kept, frame = kept_expansions(points, kept), None
        update |= {
            "skeleton": points,
            "draft_facts": {**state["draft_facts"], "skeleton_text": numbered_list(points)},
            "expansions": Overwrite(kept),
            "frame": Overwrite({}),
            "route_reason": "the skeleton was edited",
        }
    begin_live_message(run)  # another invocation asked for the review, and nobody has heard anything of the answer
    announce_skeleton(points, kept, run, material=state["material"], frame=frame)
    return update


class _ReviewPending(GraphInterrupt):
    """LangGraph's own, with a text that hides its value: the value holds the question, and traces show the text."""

    def __repr__(self) -> str:
        return "GraphInterrupt('the skeleton waits for its review')"

    def __str__(self) -> str:
        return "the skeleton waits for its review"


def _latest_answer(request: dict[str, Any]) -> Any:
    """The newest answer of the reviewer.

    On a resume LangGraph runs the node again, and each call of `interrupt` returns the next stored answer. Those before
    the last were refused.
    """
    answer = interrupt(request)  # without any answer the run stops here
    while True:
        try:
            answer = interrupt(request)
        except GraphInterrupt:  # there is no further answer
            return answer


def _without_wrapping(answer: Any) -> Any:
    """An answer out of the forms that pages put it in: JSON text, or the one decision of a list of LangChain's."""
    if isinstance(answer, str) and answer.lstrip().startswith(("[", "{")):
        with suppress(ValueError):
            answer = json.loads(answer)
    decisions = answer.get("decisions") if isinstance(answer, Mapping) else None
    match decisions:
        case [{"type": "approve"}]:
            return True
        case [{"type": "reject", **rest}]:
            return {"reject": rest.get("message") or _ANOTHER}
        case [{"type": "edit", "edited_action": {"args": {"titles": titles}}}]:
            titles = _without_wrapping(titles)
            return [line for line in titles.splitlines() if line.strip()] if isinstance(titles, str) else titles
    return answer


def _edited(given: Sequence[Any], drafted: Sequence[SkeletonPoint]) -> list[SkeletonPoint]:
    """The skeleton as a reviewer gave it. Given as titles, points that are still there keep what was drafted of them.

    That is what they need of points that are still there, and their notes. They are known by titles that no other has.
    """
    points = given_points(given)
    if any(isinstance(item, Mapping) and "depends_on" in item for item in given):
        return points
    given_times, drafted_times = (Counter(point["title"] for point in each) for each in (points, drafted))
    same = {title for title, times in given_times.items() if times == drafted_times[title] == 1}
    places = {point["title"]: point["index"] for point in points}
    title_of = {point["index"]: point["title"] for point in drafted}
    known = {point["title"]: point for point in drafted}
    for point in points:
        if point["title"] in same:
            before = known[point["title"]]
            needed = {title_of[other] for other in before["depends_on"]}
            point["depends_on"] = sorted(places[title] for title in needed & same)
            if "note" in before:
                point.setdefault("note", before["note"])
    return points


def read_verdict(answer: Any, drafted: Sequence[SkeletonPoint]) -> Verdict:
    """A reviewer's answer, in any of its forms, to a drafted skeleton.

    Raises:
        SotConfigError: It is none of them.
    """
    answer = _without_wrapping(answer)
    if answer is True or (
        isinstance(answer, str) and answer.strip().casefold() in {"approve", "approved", "yes", "ok"}
    ):
        return Verdict()
    if isinstance(answer, (list, tuple)) and answer:
        return Verdict(points=_edited(answer, drafted))
    if isinstance(answer, Mapping):
        if isinstance(answer.get("points"), (list, tuple)) and answer["points"]:
            return Verdict(points=_edited(answer["points"], drafted))
        if answer.get("approve") is True:
            return Verdict()
        comment = answer.get("reject", answer.get("comment"))
        if isinstance(comment, str) and clean_text(comment).strip():
            return Verdict(comment=clean_text(comment).strip()[:_LONGEST_COMMENT])
    message = f"The review was answered with {kind_of(answer)} that says nothing about the skeleton. {_HOW}"
    raise SotConfigError(message)
