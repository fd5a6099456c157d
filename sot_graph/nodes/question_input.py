"""Reading what a caller gave: the question and the conversation before it, a skeleton, texts of an earlier run.

And what every section is written from: these, and the skeleton.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, get_args

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.graph.message import add_messages

from sot_graph._seams import parents_messages, state_reader
from sot_graph.errors import SotConfigError, kind_of
from sot_graph.llm.prompt_cache import CACHE_MARKS
from sot_graph.options import FRAME_PARTS
from sot_graph.prompts.delimiters import escape_delimiters
from sot_graph.prompts.messages import clean_text, numbered_list, skeleton_messages
from sot_graph.retrieval.grounding import shown_documents
from sot_graph.run import ANSWER_ID_PREFIX, Inquiry
from sot_graph.skeleton.parser import parse_skeleton
from sot_graph.skeleton.points import clean_title, given_points
from sot_graph.sources import read_sources
from sot_graph.state import fields_of, marks_of
from sot_graph.types import ChatTurn, Expansion, ExpansionStatus, Frame, FrameChoice, SkeletonPoint

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from sot_graph.run import RunContext
    from sot_graph.state import SotState

BASIS_KEYS = ["run_facts", "draft_facts", "skeleton", "material"]
"""The state's keys of what every section is written from, beside the conversation."""
_CLASS_OF_ROLE: Mapping[str, type[BaseMessage]] = {
    **dict.fromkeys(("user", "human"), HumanMessage),
    **dict.fromkeys(("assistant", "ai"), AIMessage),
    **dict.fromkeys(("system", "developer"), SystemMessage),
}
_QUESTION_IS_ATTACHED = "(The question is in what is attached.)"


@dataclass(frozen=True, slots=True)
class QuestionInput:
    """The question that a caller asks, and what came with it."""

    question: str
    history: list[ChatTurn]
    is_in_messages: bool
    """Whether a human message of the caller's is the question. Else the run adds one before its answer."""
    documents: list[Any] | None
    """What the answer is to rest on: what was given, and what tools have found since the question was asked."""
    has_skeleton: bool
    """Whether the caller gave a skeleton, or the texts of one. Forms and states have empty defaults for both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SectionBasis:
    """What every section of an answer is written from."""

    inquiry: Inquiry
    skeleton: list[SkeletonPoint]
    wanted_frame: FrameChoice
    prompt_parts: Mapping[str, Any]
    """What the prompt of every section is made from."""


def with_history(state: Mapping[str, Any], config: RunnableConfig) -> Mapping[str, Any]:
    """The state with the messages before the question, where it is the parent's checkpoints that hold them."""
    history: Any = parents_messages(config) if "messages" in state else None
    return {**state, "messages": add_messages(history, state["messages"])} if history else state


def read_question(state: SotState, run: RunContext) -> QuestionInput:
    """The question and its history from `question`, `messages`, or both.

    What tools have found since the question was asked belongs to the history, too: that is what an agent answers from.

    An answer with this run's `answer_id` doesn't count as there: the run writes it again.

    Raises:
        SotConfigError: There is no question, it is blank or no string, or it is too long.
    """
    messages = [_in_class_of_role(each) for each in state.get("messages") or [] if each.id != run.answer_id]
    given, last = state.get("question"), last_human(messages)
    if not (given is None or isinstance(given, str)):
        message = f"question is {type(given).__name__}; it must be a string."
        raise SotConfigError(message)
    given = clean_text(given or "")
    is_in_messages = last is not None and _last_human_asks(given, messages, last)
    place = last if is_in_messages else None
    question, attached = given, []
    if place is not None:
        question, attached = clean_text(_text(messages[place])), attachments_of(messages[place])
    if not question.strip() and not attached:
        message = "the last human message is empty" if is_in_messages else "question is empty"
        if state.get("question") is None and last is None:
            none = f"there is no question, and of {len(messages)} messages none is human"
            message = f"{none} (a parent's state needs one of the keys question and messages)"
        message = f'{message}: pass {{"question": "..."}}, or messages with a human message that says something.'
        raise SotConfigError(message)
    history = _turns_before(messages, place) if messages else []
    length = length_of(question, history)
    if length > (most := run.options.max_question_chars):
        message = (
            f"The question and its history have {length:,} characters; options.max_question_chars allows "
            f"{most:,}. Shorten them, or raise the option."
        )
        raise SotConfigError(message)
    documents = state.get("documents")
    since = [] if place is None else messages[place:]
    found = [document for message in since for document in documents_found_by(message)]
    if found and (documents is None or isinstance(documents, (list, tuple))):
        documents = [*(documents or ()), *found]
    return QuestionInput(
        question if question.strip() else _QUESTION_IS_ATTACHED,
        history,
        is_in_messages,
        documents,
        has_skeleton=bool(state.get("given_skeleton") or state.get("given_expansions")),
    )


def asks_another(given: Any, kept: Mapping[str, Any]) -> bool:
    """Whether a graph's input has another question than the last run that its thread keeps."""
    asked, before = fields_of(given), (kept.get("run_facts") or {}).get("question_text")
    given_messages: Any = add_messages([], asked.get("messages") or [])
    messages = [_in_class_of_role(each) for each in given_messages]
    kept_messages = [_in_class_of_role(each) for each in kept.get("messages") or []]
    last, kept_last = last_human(messages), last_human(kept_messages)
    question = clean_text(str(asked.get("question") or ""))
    if question.strip() and (last is None or not _last_human_asks(question, messages, last)):
        # Until a question is read it stands under its key, and the facts are an earlier run's.
        return question != clean_text(kept.get("question") or before or "")
    if last is None or kept_last is None:
        return last is not None and clean_text(_text(messages[last])) != before
    told, known = messages[last], kept_messages[kept_last]
    # Messages that had no id have got one just now.
    had_id = told.id in [getattr(each, "id", None) for each in asked.get("messages") or []]
    return told.id != known.id if had_id and known.id else _text(told) != _text(known)


def _last_human_asks(given: str, messages: Sequence[BaseMessage], last: int) -> bool:
    """Whether the last human message is the question.

    - `question` is missing or blank: it is.
    - The last human message has its answer already: `question` is a new turn, also where it says the same again.
    - `question` repeats what a person has said: it is. A parent may have kept the question of an earlier turn, while a
      newer human message waits for its answer.
    - `question` says something new: it isn't.
    """
    if not given.strip():
        return True
    if any(isinstance(each, AIMessage) and not each.tool_calls for each in messages[last + 1 :]):
        return False
    return given in [clean_text(_text(each)) for each in messages[: last + 1] if isinstance(each, HumanMessage)]


def history_of(state: Mapping[str, Any]) -> list[ChatTurn]:
    """The conversation before the question of a run that has begun: as `read_question` read it.

    It isn't kept beside the messages that it is made of, for it would double each checkpoint.
    """
    if not state.get("messages"):
        return []
    facts = state["run_facts"]
    own = {facts["answer_id"], facts["question_id"]}  # they are among the messages where points are written again
    messages = [_in_class_of_role(message) for message in state["messages"] if message.id not in own]
    return _turns_before(messages, None if facts["question_id"] else last_human(messages))


def inquiry_of(state: Mapping[str, Any], history: list[ChatTurn], run: RunContext) -> Inquiry:
    """What a run is to answer, from the state's keys, or from those that a `Send` carries."""
    material = state.get("material")
    return Inquiry(
        question=state["run_facts"]["question_text"],
        history=history,
        material=material,
        shown_documents="" if material is None else shown_documents(material, run),
        may_depend=state["run_facts"]["may_depend"],
    )


def section_basis(payload: Mapping[str, Any], run: RunContext) -> SectionBasis:
    """What a section is written from: carried to its node, or read from the state, once an invocation.

    All prompts of a run begin with the same messages, which are made once.
    """
    is_carried = "draft_facts" in payload
    if not is_carried and run.invocation.basis is not None:
        return run.invocation.basis
    read = state_reader(run.config)
    assert is_carried or read is not None, "sends_all is false: so the state can be read here"
    state = payload if is_carried or read is None else with_history(read([*BASIS_KEYS, "messages"]), run.config)
    inquiry = asked = inquiry_of(state, payload["history"] if is_carried else history_of(state), run)
    if run.options.point_context == "question":
        asked = replace(inquiry, history=_without_conversation(inquiry.history))
    skeleton, drafted = state["skeleton"], state["draft_facts"]
    skeleton_text, skeleton_format = drafted["skeleton_text"], drafted["skeleton_format"]
    if not (is_carried or run.invocation.begun_here or _is_as_written(skeleton_text, skeleton)):
        skeleton_text = numbered_list(skeleton)
    made_from = (asked.question, skeleton_format, asked.may_depend, run.options, asked.shown_documents)
    made = run.invocation.prefix_messages
    if made is None or made[0] != made_from:
        messages = skeleton_messages(run.parts.prompts, asked, run.options, skeleton_format=skeleton_format)
        made = run.invocation.prefix_messages = (made_from, messages)
    prompt_parts = {
        "question": asked.question,
        "history": asked.history,
        "skeleton": skeleton,
        "prefix_messages": made[1],
        "skeleton_text": skeleton_text,
    }
    wanted_frame = state["run_facts"]["wanted_frame"]
    basis = SectionBasis(inquiry=inquiry, skeleton=skeleton, wanted_frame=wanted_frame, prompt_parts=prompt_parts)
    if not is_carried:
        run.invocation.basis = basis
    return basis


def _is_as_written(text: str, points: Sequence[SkeletonPoint]) -> bool:
    """Whether a skeleton's text still says its titles: between two invocations somebody may edit them in the state."""
    written = [title.strip() for title in parse_skeleton(text)]
    return len(written) == len(points) and all(
        title.startswith(point["title"]) for title, point in zip(written, points, strict=True)
    )


def _turns_before(messages: Sequence[BaseMessage], position: int | None) -> list[ChatTurn]:
    """The turns before a question, which stands in the conversation at this position, or, at `None`, behind it.

    What agents and tools have said since belongs to them, but for documents, which the prompts show as such. Not an
    answer of a graph of ours, which an earlier run may have left there.
    """
    if position is None:
        return turns_of(messages)
    history = turns_of(messages[:position])
    for each in messages[position + 1 :]:
        if isinstance(each, HumanMessage) or (isinstance(each, AIMessage) and not each.tool_calls):
            text, others = _as_data(_text(each)), attachments_of(each)
            if (text or others) and not (each.id or "").startswith(ANSWER_ID_PREFIX):
                name = re.sub(r"[^\w -]", "", each.name or "") or "an agent"
                history.append(_told(f'<said by="{name}">\n{text}\n</said>', others))
        elif not (isinstance(each, SystemMessage) or documents_found_by(each)):
            history += turns_of([each])
    if attached := attachments_of(messages[position]):  # the prompts put it into one message with the question
        history.append(ChatTurn(role="user", content=attached))
    return history


def _without_conversation(history: Sequence[ChatTurn]) -> list[ChatTurn]:
    """What is left of a history for those who are to read the question alone: instructions, and what came with it."""
    kept = [turn for turn in history if turn["role"] == "system"]
    for turn in history[-1:]:
        blocks = turn["content"]
        if turn["role"] != "system" and isinstance(blocks, list) and not any("text" in block for block in blocks):
            kept.append(turn)  # pictures and files alone
    return kept


def documents_found_by(message: BaseMessage) -> list[Any]:
    """The documents that a tool has found, where its message's artifact is a list of them."""
    artifact = message.artifact if isinstance(message, ToolMessage) else None
    if not isinstance(artifact, list):
        return []
    are_all = all(
        isinstance(each, Document) or (isinstance(each, Mapping) and isinstance(each.get("page_content"), str))
        for each in artifact
    )
    return artifact if are_all else []


def _in_class_of_role(message: BaseMessage) -> BaseMessage:
    """A `ChatMessage`, which may have any role, as a message of its role's own class; others as they are."""
    kind = _CLASS_OF_ROLE.get(message.role) if isinstance(message, ChatMessage) else None
    return message if kind is None else kind(message.content, id=message.id)


def turns_of(messages: Sequence[BaseMessage]) -> list[ChatTurn]:
    """A conversation as the prompts show it."""
    return [turn for message in messages if (turn := _turn(message)) is not None]


def length_of(question: str, history: Sequence[ChatTurn]) -> int:
    """Characters of a question and its history. What isn't text, such as a picture, doesn't count."""
    length = len(question)
    for turn in history:
        content = turn["content"]
        blocks = [content] if isinstance(content, str) else content
        length += sum(len(block if isinstance(block, str) else str(block.get("text", ""))) for block in blocks)
    return length


def last_human(messages: Sequence[BaseMessage]) -> int | None:
    """Where the last thing stands that a person has said.

    Agents may write in a person's place, under names of their own: then a question without a name goes before these.
    """
    last = None
    for position in range(len(messages) - 1, -1, -1):
        message = messages[position]
        if isinstance(message, HumanMessage):
            if not message.name:
                return position
            last = position if last is None else last
        elif last is not None and isinstance(message, AIMessage) and not message.tool_calls:
            break  # of an earlier turn
    return last


def _text(message: BaseMessage) -> str:
    return message.content if isinstance(message.content, str) else str(message.text)


def _told(text: str, others: Sequence[Any]) -> ChatTurn:
    """What isn't the model's own, with its pictures and files."""
    return ChatTurn(role="user", content=[{"type": "text", "text": text}, *others] if others else text)


def _turn(message: BaseMessage) -> ChatTurn | None:
    """An earlier message as the prompts show it; `None` for one that says nothing, such as a bare tool call."""
    if isinstance(message, ToolMessage):
        # Without the tools bound, many providers refuse tool messages: their results go in as text.
        return _told(f"<tool_result>\n{_as_data(_text(message))}\n</tool_result>", attachments_of(message))
    content: Any
    if isinstance(message, AIMessage):
        content = _as_data(_text(message))  # blocks such as tool calls or reasoning stay behind
        role = "assistant"
    elif isinstance(message, SystemMessage):
        content = _marked_blocks(message.content) or clean_text(_text(message))  # the application's own
        role = "system"
    else:
        content = _as_data(message.content)
        role = "user"
    return ChatTurn(role=role, content=content) if content else None


def attachments_of(message: BaseMessage) -> list[Any]:
    """What a message holds beside its text, such as pictures."""
    blocks = message.content if isinstance(message.content, list) else []
    return [block for block in blocks if isinstance(block, dict) and "text" not in block]


def _marked_blocks(content: Any) -> Any:
    """A system message's blocks, where one of them marks what a provider is to keep in its cache; otherwise nothing."""
    blocks = content if isinstance(content, list) else []
    are_known = all(
        isinstance(each, dict) and (isinstance(each.get("text"), str) or "cachePoint" in each) for each in blocks
    )
    if not are_known or not any(name in block for block in blocks for name in CACHE_MARKS):
        return None
    return [{**block, "text": clean_text(block["text"])} if "text" in block else block for block in blocks]


def _as_data(content: Any) -> Any:
    """Content that any provider takes, and in which our delimiters neither open nor close."""
    if isinstance(content, str):
        return escape_delimiters(clean_text(content))
    if isinstance(content, list):
        return [_as_data(block) for block in content]
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        return {**content, "text": _as_data(content["text"])}
    return content


def read_given(state: SotState) -> tuple[list[SkeletonPoint], list[Expansion]]:
    """The skeleton and the expansions that the caller brought along, checked."""
    skeleton, given_expansions = state.get("given_skeleton"), state.get("given_expansions")
    if given_expansions and not isinstance(given_expansions, (list, tuple)):
        kind = type(given_expansions).__name__
        message = f"given_expansions is {kind}; pass back the expansions of an earlier result, a list."
        raise SotConfigError(message)
    expansions: list[Expansion] = []
    for position, item in enumerate(given_expansions or [], start=1):
        if not _is_section(item, index=int, title=str):
            message = (
                f"given_expansions: entry {position} is {kind_of(item)}; pass back the expansions of an earlier "
                "result as they are (the status is ok, failed or timed_out)."
            )
            raise SotConfigError(message)
        expansions.append(_with_sources(item, f"given_expansions: the sources of entry {position}"))
    if not skeleton:
        skeleton = [expansion["title"] for expansion in sorted(expansions, key=lambda expansion: expansion["index"])]
    return given_points(skeleton), expansions


def _is_section(given: object, **kinds: type) -> bool:
    """Whether this is a text of an earlier result, with keys of these kinds beside those of every text."""
    return (
        isinstance(given, Mapping)
        and all(isinstance(given.get(key), kind) for key, kind in {"text": str, **kinds}.items())
        and given.get("status") in get_args(ExpansionStatus)
    )


def _with_sources(section: Mapping[str, Any], what: str) -> Any:
    """A text of an earlier result, with its sources as an expander's are read; `what` names them in the error."""
    if section.get("detail"):
        section = {**section, "detail": clean_text(str(section["detail"]))}
    if not section.get("sources"):
        return section
    try:
        return {**section, "sources": read_sources(section["sources"])}
    except ValueError:
        message = (
            f"{what} ({kind_of(section['sources'])}) are no list of texts or of "
            '{"title": ..., "url": ..., "id": ...}; pass back what an earlier result gave as it is.'
        )
        raise SotConfigError(message) from None  # the ValueError quotes the sources, and traces would show it


def kept_expansions(points: Sequence[SkeletonPoint], expansions: Sequence[Expansion]) -> list[Expansion]:
    """Those that are `ok` and belong to a point: by title, since a caller may have reordered the skeleton."""
    finished = [expansion for expansion in expansions if expansion["status"] == "ok"]
    places, titles = {(point["index"], point["title"]) for point in points}, {point["title"] for point in points}
    # First those that stand where they stood, then the moved ones: titles may be equal, and each text is used once.
    by_place = {(expansion["index"], expansion["title"]): expansion for expansion in finished}
    moved: dict[str, list[Expansion]] = {}
    for expansion in finished:
        if (expansion["index"], expansion["title"]) not in places:
            title = expansion["title"]
            if title not in titles:
                title = clean_title(title, place=expansion["index"])
            moved.setdefault(title, []).append(expansion)
    kept: list[Expansion] = []
    for point in points:
        others = moved.get(point["title"])
        found = by_place.get((point["index"], point["title"])) or (others.pop(0) if others else None)
        if found is not None:
            text = clean_text(found["text"])
            own = {"index": point["index"], "title": point["title"], "text": text, "status": "ok", "error": None}
            kept.append(cast("Expansion", {**own, **marks_of(found)}))
    return kept


def kept_frame(given: Any, frame: FrameChoice, *, whole: bool) -> Frame:
    """The parts of an earlier run's frame that need not be written: those that are wanted and `ok`.

    Args:
        given: What the caller brought along.
        frame: What the graph wants.
        whole: Whether every point is kept. If any point is written again, so is the conclusion.

    Raises:
        SotConfigError: It isn't what an earlier run gave.
    """
    kept: Frame = {}
    if given is None:
        return kept
    for name in FRAME_PARTS[frame]:
        part = given.get(name) if isinstance(given, Mapping) else given
        if part is None:
            continue
        if not _is_section(part):
            message = f"given_frame: the {name} is {kind_of(part)}; pass back the frame of an earlier result as it is."
            raise SotConfigError(message)
        if part["status"] == "ok" and (name != "conclusion" or whole):
            marks = marks_of(_with_sources(part, f"given_frame: the sources of the {name}"))
            kept[name] = {"text": clean_text(part["text"]), "status": "ok", "error": None, **marks}
    return kept
