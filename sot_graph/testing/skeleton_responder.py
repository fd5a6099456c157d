"""`SkeletonResponder`: answers each prompt of this project by what it asks for."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from sot_graph.errors import SotConfigError
from sot_graph.testing.openai_wire import TOKEN_CHARACTERS, ChatRequest, Reply, ToolCall, compact_json
from sot_graph.types import FRAME_PART_NAMES, FramePartName

if TYPE_CHECKING:
    from sot_graph.testing.simulated_endpoint import LoggedRequest

_FRAME = re.compile(  # the second half, and `small` below: as `SotPrompts.small()` asks
    r"write the (opening|introduction|conclusion) of the answer|^(opening|introduction|conclusion)[^\n]{,20}:\s*\Z",
    re.IGNORECASE | re.MULTILINE,
)
_POINT = re.compile(r"<point>(?:(?P<number>\d+)\. )?(?P<title>[^<]*)</point>|^Point: (?P<small>.*)$", re.MULTILINE)
_SKELETON = re.compile(
    r"\bnumbered (?:list|lines)\b|\b(?:skeleton|outline)\b.*\b(?:list|JSON)\b", re.IGNORECASE | re.DOTALL
)
_ROUTE = '</question>\n\nWhich letter? Reply with JSON only: {"kind":"A"}'
_GO_ON = re.compile(r"^Your reply broke off\.")
"""As the graph asks for the rest of a reply."""
_DATA = re.compile(r"<(question|document)\b[^>]*>(?:(?!&lt;point>).)*?</\1>", re.DOTALL)
"""What a prompt shows, and doesn't ask for. But a nested graph's question is the prompt of a point."""
_NEEDS = re.compile(r"\s*\(needs? [^()]*\)\s*\Z", re.IGNORECASE)

# No two titles have a word in common: the graph may drop a title that says what another one says.
_TITLES = (
    "Early beginnings, Main causes, Daily practice, Hidden costs, Common mistakes, Useful tools, Local customs, "
    "Future outlook, Public safety, Money matters, Family support, Legal questions, Healthy habits, Natural limits, "
    "Famous examples, Technical basics"
)
_WORDS = (
    "river market teacher garden village engine harbour letter window forest budget student island bridge library "
    "winter builder kitchen signal meadow factory painter railway lantern orchard council ribbon compass doctor valley "
    "calm bright narrow steady rural modern simple patient careful distant open broad gentle sturdy curious formal"
)
_SENTENCE_WORDS = 11
_FRAME_TOKENS = 40
_SHORTEST_CONTENT_WORD = 4


@dataclass(frozen=True)
class Ask:
    """What a request asks for."""

    stage: Literal["skeleton", "point", "answer"] | FramePartName
    number: int | None = None
    """Of the point, from 1; `None`: not said."""
    title: str = ""
    """Of the point."""

    @classmethod
    def of(cls, request: ChatRequest | LoggedRequest, titles: Sequence[str]) -> Ask:
        """Look at the last user message, and for a skeleton also at the system message.

        A point is known by its mark or, in prompts of a caller's own, by its title: of those in the message, the last.
        A request to go on with a reply that broke off asks for what that reply was asked for.

        Args:
            request: The request, or what an endpoint has noted of it (`SimulatedEndpoint.requests`).
            titles: Of the points that may be asked for, in order.
        """
        request = cast("ChatRequest", getattr(request, "request", request))
        text = request.last_user
        if _GO_ON.match(text):
            text = ChatRequest({"messages": request.messages[:-1]}).last_user
        text = _DATA.sub("", text)
        if frame := _FRAME.search(text):
            return cls(cast("FramePartName", (frame[1] or frame[2]).lower()))
        titles = [_NEEDS.sub("", title) for title in titles]
        if points := list(_POINT.finditer(text)):
            title = points[-1]["title"] or points[-1]["small"] or ""
            if title in titles:
                return cls("point", titles.index(title) + 1, title)
            return cls("point", int(points[-1]["number"]) if points[-1]["number"] else None, title)
        if _SKELETON.search(text) or _SKELETON.search(request.system):
            return cls("skeleton")
        # Of "Step 1" and "Step 10" at the same place, the longer one is meant.
        place, _, title = max((text.rfind(title), len(title), title) for title in titles)
        return cls("point", titles.index(title) + 1, title) if place >= 0 else cls("answer")


class SkeletonResponder:
    r"""Answers each prompt of Skeleton-of-Thought by what it asks for, never by the order of calls.

    A request with a JSON schema, or with tools, gets compact JSON that fits: titles in its arrays, prose in its other
    texts. A tool is called unless `tool_choice` is `"none"` or a tool's result has just come. A reply that broke off is
    gone on with. Of the others, one for a skeleton gets numbered lines, or JSON if it asks for that; everything else
    gets filler text, the same for the same request, that holds a word of the title of the point that is asked for. An
    answer that is no point is as long as all points together.

    Args:
        points: How many points a skeleton has; with `titles`, they decide.
        words_per_point: Words of a point's text, or what makes them of the point's number.
        tokens_per_point: The same in tokens of four characters each, in place of `words_per_point`.
        titles: The points' titles. Give different ones: a point is recognised by its title.
        text: In place of the filler text: of an `Ask` that is no skeleton, a text in which `{number}` and `{title}` are
            filled in, or what makes it.

    Raises:
        SotConfigError: No points, or one text in place of the titles.

    Examples:
        >>> responder = SkeletonResponder(titles=["Seed", "Soil"])
        >>> messages = [{"role": "user", "content": "Why? Give a numbered list."}]
        >>> responder(ChatRequest({"messages": messages})).text
        '1. Seed\n2. Soil'
    """

    def __init__(
        self,
        points: int = 8,
        words_per_point: int | Callable[[int], int] = 60,
        titles: Sequence[str] | None = None,
        *,
        tokens_per_point: int | Callable[[int], int] | None = None,
        text: str | Callable[[Ask], str] | None = None,
    ) -> None:
        made = [*_TITLES.split(", "), *(f"Title{number} word{number}" for number in range(points))][:points]
        self.titles = made if titles is None else list(titles)
        if not self.titles or points < 1 or isinstance(titles, str):
            given = f" as a list of titles, not {titles!r}" if titles else ""
            message = f"SkeletonResponder needs at least one point{given}."
            raise SotConfigError(message)
        self.words_per_point = words_per_point
        self.tokens_per_point = tokens_per_point
        self._text = text

    def __call__(self, request: ChatRequest) -> Reply:
        """Answer a request."""
        if _GO_ON.match(request.last_user):
            whole = self(ChatRequest({**request.raw, "messages": request.messages[:-2]}))
            before_last_word = str(request.messages[-2].get("content")).rpartition(" ")[0]
            return Reply(whole.text.removeprefix(before_last_word).lstrip())
        ask = Ask.of(request, self.titles)
        choice, form = request.raw.get("tool_choice"), request.response_format
        roles = [message.get("role") for message in request.messages if message.get("role") in ("tool", "assistant")]
        if request.tools and choice != "none" and roles[-1:] != ["tool"]:
            functions = {tool["function"]["name"]: tool["function"] for tool in request.tools}
            name = choice["function"]["name"] if isinstance(choice, dict) else next(iter(functions))
            return Reply(tool_calls=[ToolCall(name, self._fill(functions[name].get("parameters") or {}, ask, request))])
        if form.get("type") == "json_schema":
            return Reply(compact_json(self._fill(form["json_schema"].get("schema") or {}, ask, request)))
        if _ROUTE in request.last_user:  # a `ModelRouter` asks
            return Reply('{"kind":"A"}')
        if ask.stage == "skeleton" or form.get("type") == "json_object":
            as_json = form.get("type") == "json_object" or "json" in request.last_user.lower()
            numbered = "\n".join(f"{number}. {title}" for number, title in enumerate(self.titles, 1))
            return Reply(compact_json({"points": self.titles}) if as_json else numbered)
        return Reply(self._prose(ask, request))

    def _fill(self, schema: Mapping[str, Any], ask: Ask, request: ChatRequest) -> Any:
        """A value for the JSON schema of a plain Pydantic model: titles in its arrays, prose in its other texts."""

        def value(part: Mapping[str, Any], number: int | None = None) -> Any:
            if "$ref" in part:
                part = schema["$defs"][part["$ref"].rpartition("/")[2]]
            if "enum" in part:
                return part["enum"][0]
            if "properties" in part:
                return {name: value(inner, number) for name, inner in part["properties"].items()}
            if "items" in part:  # a list within a list stays empty
                count = len(self.titles) if number is None else 0
                return [value(part["items"], index) for index in range(1, count + 1)]
            if part.get("type") == "integer":
                return number or 1
            if number is not None:
                return self.titles[number - 1]
            # A single text that a schema asks for is a point's.
            return self._prose(ask if ask.stage == "point" else Ask("point", 1), request)

        return value(schema)

    def _prose(self, ask: Ask, request: ChatRequest) -> str:
        """Sentences, always the same for a point. The longest word of its title is among the first ones."""
        if isinstance(self._text, str):
            return self._text.replace("{number}", str(ask.number or "")).replace("{title}", ask.title)
        if self._text is not None:
            return self._text(ask)
        counts_tokens, count = True, _FRAME_TOKENS
        if ask.stage not in FRAME_PART_NAMES:
            counts_tokens = self.tokens_per_point is not None
            # An answer that is no point is as long as all points together.
            numbers = [ask.number or 1] if ask.stage == "point" else range(1, len(self.titles) + 1)
            lengths = self.words_per_point if self.tokens_per_point is None else self.tokens_per_point
            count = max(1, sum(lengths(number) if callable(lengths) else lengths for number in numbers))
        text = random.Random(ask.title or f"{ask.number} {request.last_user}").choices(_WORDS.split(), k=count)
        subject = max(re.findall(r"\w+", ask.title), key=len, default="")
        if len(subject) >= _SHORTEST_CONTENT_WORD:
            text[min(2, count - 1)] = subject.lower()
        sentences = [text[start : start + _SENTENCE_WORDS] for start in range(0, count, _SENTENCE_WORDS)]
        prose = " ".join(" ".join(sentence).capitalize() + "." for sentence in sentences)
        # As a word is a token at least, so many words can be cut to so many tokens.
        return prose[: count * TOKEN_CHARACTERS - 1].rstrip(" .") + "." if counts_tokens else prose
