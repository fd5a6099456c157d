"""From templates and data to messages. What comes from outside can't close its delimiters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from sot_graph.prompts.delimiters import escape_delimiters

if TYPE_CHECKING:
    from sot_graph.options import SotOptions
    from sot_graph.prompts.templates import Example, SotPrompts
    from sot_graph.run import Inquiry
    from sot_graph.types import ChatTurn, Expansion, FramePartName, SkeletonFormat, SkeletonPoint

_TOOLS_FIRST = "- If you need a tool, call it first, as you would anyway."
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_OTHER_SCRIPT = re.compile(r"[^\W\d_\u0000-\u02ff\u1e00-\u1eff]")
"""A letter that no Latin spelling has."""
_UNSENDABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
"""Control characters, also the upper ones (a terminal's too), but for white space."""


def clean_text(text: str) -> str:
    """Text that any provider takes: lone surrogates replaced, control characters dropped, the rest as it is."""
    if text.isascii() and text.isprintable():
        return text  # as nearly all are, and each piece of a streamed reply is looked at
    whole = _SURROGATE_PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
    return _UNSENDABLE.sub("", whole.encode("utf-8", "replace").decode("utf-8"))


def without_system(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The same prompt for a model that takes no system messages: what they say goes before the user's first turn."""
    said = "\n\n".join(str(message.text) for message in messages if isinstance(message, SystemMessage))
    others = [message for message in messages if not isinstance(message, SystemMessage)]
    place = next((at for at, message in enumerate(others) if isinstance(message, HumanMessage)), None)
    if place is None:
        return [HumanMessage(said), *others]
    others[place] = HumanMessage(_joined([said, others[place].content]))
    return others


def _joined(contents: Sequence[Any]) -> Any:
    """The contents of several messages as that of one: a text, or blocks where one of them has blocks."""
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(contents)
    blocks = [[{"type": "text", "text": content}] if isinstance(content, str) else content for content in contents]
    return [block for content in blocks for block in content]


def numbered_list(points: Iterable[SkeletonPoint]) -> str:
    """A skeleton as numbered lines."""
    return "\n".join(f"{point['index']}. {point['title']}" for point in points)


def skeleton_as_written(points: Sequence[SkeletonPoint], skeleton_format: str) -> str:
    """The skeleton as a model writes it in this format, be it only the beginning of one."""
    if skeleton_format == "structured":
        titles = [point["title"] for point in points]
        return json.dumps({"points": titles}, ensure_ascii=False, separators=(",", ":"))
    return numbered_list(points)


def skeleton_messages(
    prompts: SotPrompts,
    inquiry: Inquiry,
    options: SotOptions,
    *,
    skeleton_format: SkeletonFormat,
    recalls: bool = False,
) -> list[BaseMessage]:
    """The prompt for a skeleton. In the list format it may end with a prefilled assistant message.

    In the format `"draft"` the model may answer instead, and cites the documents then. The points' prompts begin with
    the same messages; `recalls`, which asks what the points need of the conversation, is for the skeleton alone.
    """
    as_list, may_depend, documents = skeleton_format == "list", inquiry.may_depend, inquiry.shown_documents
    question = escape_delimiters(inquiry.question)
    placeholders = _skeleton_placeholders(prompts, options, may_depend=may_depend)
    if skeleton_format == "draft":
        request = _grounded(prompts, f"<question>\n{question}\n</question>", documents)
        request = f"{request}\n\n{prompts.draft_or_answer.format(**placeholders)}"
        system = prompts.direct_system or prompts.system
    else:
        template = prompts.skeleton_list if as_list else prompts.skeleton
        request = template.format(question=question, **placeholders)
        if may_depend and "{relation}" not in template:
            request = f"{request}\n{placeholders['relation']}"
        if documents:
            request = prompts.documents.format(documents=documents) + request
        system = prompts.system
    if recalls and prompts.recall:
        request = f"{request}\n{prompts.recall.format()}"
    messages = _conversation(system, inquiry.history, prompts.skeleton_examples if as_list else (), request)
    if as_list and prompts.skeleton_prefill:
        messages.append(AIMessage(prompts.skeleton_prefill.format()))
    return messages


def point_limits(prompts: SotPrompts, options: SotOptions) -> tuple[int, int]:
    """How many points a skeleton may have: the fewest and the most."""
    most = options.max_points if prompts.max_points is None else min(options.max_points, prompts.max_points)
    return min(options.min_points, most), most


def _skeleton_placeholders(prompts: SotPrompts, options: SotOptions, *, may_depend: bool = False) -> dict[str, Any]:
    """What the templates that ask for a skeleton say of it."""
    fewest, most = point_limits(prompts, options)
    return {
        "min_points": fewest,
        "max_points": most,
        "title_length": options.title_length,
        "relation": (prompts.dependent if may_depend else prompts.independent).format(),
    }


def draft_or_answer(prompts: SotPrompts, options: SotOptions, *, may_call_tools: bool) -> str:
    """What leaves it to a model whether it drafts a skeleton or answers; a question, or a conversation, goes before."""
    told = prompts.draft_or_answer.format(**_skeleton_placeholders(prompts, options))
    return f"{told}\n{_TOOLS_FIRST}" if may_call_tools else told


def rejected_skeleton_messages(messages: Sequence[BaseMessage], skeleton_text: str, comment: str) -> list[BaseMessage]:
    """The prompt for another skeleton than this one, which a reviewer has rejected with a comment."""
    request = (
        "The reader rejects this skeleton and says:\n"
        f"<comment>\n{escape_delimiters(comment)}\n</comment>\n"
        "Write another one, in the same form, that meets this."
    )
    return _continued(messages, escape_delimiters(skeleton_text), request)


def longer_list_messages(
    messages: Sequence[BaseMessage], list_text: str, *, usable: int, fewest: int
) -> list[BaseMessage]:
    """The prompt for a list again, where the model's own had too few usable points."""
    request = (
        f"That list has {usable} usable points. Write it again with at least {fewest} different points, as a numbered "
        "list only, one title a line."
    )
    return _continued(messages, list_text, request)


def missing_points_messages(
    messages: Sequence[BaseMessage],
    kept: int,
    kept_text: str,
    *,
    skeleton_format: SkeletonFormat,
    fewest: int,
    most: int,
) -> list[BaseMessage]:
    """The prompt for the points that are still missing beside those that are kept, and only these."""
    how_many = f"{fewest} to {most} of them" if fewest > 0 else f"{most} at most, none if nothing is missing"
    form = "a numbered list only, one title a line."
    if skeleton_format == "structured":
        form = 'JSON only: {"points":["title","title"]}'
    request = (
        f"These {kept} points are kept. Write those that are still missing, {how_many}, different from these, in the "
        f"same form: only the new ones. Reply with {form}"
    )
    # A prefill begins a list at its first number.
    return _continued(messages, escape_delimiters(kept_text), request, keeps_prefill=False)


def _continued(
    messages: Sequence[BaseMessage], written: str, request: str, *, keeps_prefill: bool = True
) -> list[BaseMessage]:
    """The same conversation, after what the model has written to it, with what is asked of it now."""
    prefill = [messages[-1]] if isinstance(messages[-1], AIMessage) else []
    before = messages[: len(messages) - len(prefill)]
    return [*before, AIMessage(written), HumanMessage(request), *(prefill if keeps_prefill else [])]


def expansion_messages(
    prompts: SotPrompts,
    *,
    point: SkeletonPoint,
    skeleton: Sequence[SkeletonPoint],
    prefix_messages: Sequence[BaseMessage],
    skeleton_text: str,
    question: str,
    history: Sequence[ChatTurn],
    point_length: str,
    needed: Sequence[Expansion] = (),
    is_opened: bool = False,
    shared_documents: str = "",
    own_documents: str = "",
) -> list[BaseMessage]:
    """The prompt for one point.

    In the shared layout it repeats `prefix_messages`, the messages that asked for the skeleton, to the letter, so that
    a prompt cache can serve them, and `skeleton_text`, the skeleton as the model wrote it. `needed` are the points that
    this one builds on; with `is_opened`, an opening says the short answer. `shared_documents` stand in the shared
    messages already.
    """
    request = prompts.expansion.format(
        index=point["index"],
        title=escape_delimiters(point["title"]),
        # A thousand points would each list all thousand, and each clean the same question.
        question=escape_delimiters(question) if "{question}" in prompts.expansion else "",
        skeleton=escape_delimiters(numbered_list(skeleton)) if "{skeleton}" in prompts.expansion else "",
        point_length=point_length,
    )
    if is_opened and prompts.opened:
        request = f"{request} {prompts.opened.format()}"
    if note := point.get("note"):
        request = prompts.note.format(note=escape_delimiters(note)) + request
    if needed:
        request = prompts.needed.format(needed=_written(needed)) + request
    is_shared = prompts.expansion_layout == "shared"
    shown = own_documents if is_shared else "\n".join(filter(None, (shared_documents, own_documents)))
    if shown:
        request = prompts.documents.format(documents=shown) + request
    if shared_documents or own_documents:
        request += prompts.citing.format()
    if is_shared:
        messages = [*prefix_messages, _skeleton_message(skeleton_text), HumanMessage(request)]
    else:
        system = prompts.expansion_system or prompts.system
        messages = _conversation(system, history, prompts.expansion_examples, request)
    prefill, _ = expansion_start(prompts, point)
    if prefill:
        messages.append(AIMessage(prefill))
    return messages


def expansion_start(prompts: SotPrompts, point: SkeletonPoint) -> tuple[str, str]:
    """What is put into the model's mouth as a point's beginning, and its last words, which belong to the text.

    Often both are empty. A title in another script than Latin has no opening in Latin letters: it would be in another
    language than the text.
    """
    openings = prompts.expansion_openings
    first_words = openings[(point["index"] - 1) % len(openings)] if openings else ""
    if _OTHER_SCRIPT.search(point["title"]) and not _OTHER_SCRIPT.search(first_words):
        first_words = ""
    prefill = prompts.expansion_prefill.format(index=point["index"], title=escape_delimiters(point["title"]))
    return f"{prefill} {first_words}".strip(), first_words


def frame_messages(
    prompts: SotPrompts,
    part: FramePartName,
    *,
    skeleton: Sequence[SkeletonPoint],
    prefix_messages: Sequence[BaseMessage],
    skeleton_text: str,
    question: str,
    history: Sequence[ChatTurn],
    expansions: Sequence[Expansion] = (),
) -> list[BaseMessage]:
    """The prompt for the introduction or the conclusion. `expansions` are what the conclusion draws together."""
    is_introduction = part == "introduction"
    template = prompts.introduction if is_introduction else prompts.conclusion
    request = template.format(
        question=escape_delimiters(question),
        skeleton=escape_delimiters(numbered_list(skeleton)),
        points=_written(expansions),
    )
    if prompts.frame_layout == "shared":
        return [*prefix_messages, _skeleton_message(skeleton_text), HumanMessage(request)]
    examples = prompts.introduction_examples if is_introduction else prompts.conclusion_examples
    return _conversation(prompts.frame_system or prompts.system, history, examples, request)


def opening_messages(
    prompts: SotPrompts, question: str, history: Sequence[ChatTurn], documents: str = ""
) -> list[BaseMessage]:
    """The prompt for the opening, made from the question and its documents: there is no skeleton yet."""
    request = _grounded(prompts, prompts.opening.format(question=escape_delimiters(question)), documents)
    system = prompts.opening_system or prompts.system
    return _conversation(system, history, prompts.opening_examples, request)


def direct_messages(
    prompts: SotPrompts, *, question: str, history: Sequence[ChatTurn], documents: str = "", opening: str = ""
) -> list[BaseMessage]:
    """The prompt for an ordinary answer, or for the rest of one that has been opened already."""
    request = _grounded(prompts, prompts.direct.format(question=escape_delimiters(question)), documents)
    messages = _conversation(prompts.direct_system or prompts.system, history, (), request)
    if opening:
        messages += [AIMessage(opening), HumanMessage(prompts.after_opening.format())]
    return messages


def _grounded(prompts: SotPrompts, request: str, documents: str) -> str:
    """What is asked, with the documents that a text is to rest on."""
    return prompts.documents.format(documents=documents) + request + prompts.citing.format() if documents else request


def _conversation(
    system: str, history: Sequence[ChatTurn], examples: Iterable[Example], request: str
) -> list[BaseMessage]:
    """The system message, which a caller's own text joins (some providers take one only), and the turns up to now."""
    content: Any = system.format()
    if theirs := [turn["content"] for turn in history if turn["role"] == "system"]:
        # Inside another graph of ours, the conversation may hold the same system message already.
        is_repeated = any(isinstance(part, str) and part.endswith(content) for part in theirs)
        # A caller's text may come in blocks, with marks for a provider's cache.
        content = _joined([part for part in (*theirs, "" if is_repeated else content) if part])
    messages: list[BaseMessage] = [SystemMessage(content)] if content else []
    said = [(turn["role"], turn["content"]) for turn in history if turn["role"] != "system"]
    for question, answer in examples:
        said += [("user", question), ("assistant", answer)]
    for role, text in [*said, ("user", request)]:
        if role == "assistant":
            messages.append(AIMessage(text))
        elif messages and isinstance(messages[-1], HumanMessage):  # many chat templates refuse two in a row
            messages[-1] = HumanMessage(_joined([messages[-1].content, text]))
        else:
            messages.append(HumanMessage(text))
    return messages


@lru_cache(maxsize=4)
def _skeleton_message(text: str) -> AIMessage:
    """The skeleton as the model's own message, made once for all points of a run."""
    return AIMessage(escape_delimiters(text))


def _written(expansions: Iterable[Expansion]) -> str:
    """Points as they stand in the answer, as data."""
    return escape_delimiters("\n\n".join(f"{one['index']}. {one['title']}\n{one['text']}" for one in expansions))
