"""One model call as the graph makes it: streamed or not, repeated where that can help, always counted.

A streamed reply that breaks off is continued from where it ends (`go_on`).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.runnables.config import merge_configs
from openai import ContentFilterFinishReasonError, LengthFinishReasonError

from sot_graph.concurrency.cancellation import closing_chain
from sot_graph.llm.loop_bound_model import LoopModel, is_of_another_loop
from sot_graph.llm.openai_client import reply_char_limit
from sot_graph.llm.provider_errors import explain, meaning_of, refuses_system
from sot_graph.llm.reply import Reply, StreamedReply, UnfinishedReplyError, reply_held_by, text_of
from sot_graph.llm.retry_policy import RetryPolicy
from sot_graph.llm.thoughts import ThoughtFilter
from sot_graph.observability.redaction import GIVEN_UP, Redactor
from sot_graph.observability.run_trace import CallTrace
from sot_graph.prompts.messages import without_system
from sot_graph.usage import CHARS_PER_TOKEN, tokens_of

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable, RunnableConfig

    from sot_graph.run import RunContext
    from sot_graph.types import Stage

logger = logging.getLogger("sot_graph")

Prompt: TypeAlias = "Sequence[BaseMessage] | Callable[[], Sequence[BaseMessage]]"
"""A prompt, or what makes it."""
Binder: TypeAlias = "Callable[[Runnable[Any, Any]], Runnable[Any, Any]]"

_GO_ON = (
    "Your reply broke off. Go on exactly where it ends, with the very next word, or with the whole of a word that it "
    "ends in. Repeat nothing else of it, and add no remark."
)
_LONGEST_OVERLAP = 200
_LAST_WORD, _FIRST_WORD = re.compile(r"[^\W_]+$"), re.compile(r"[^\W_]+")
BROKE_OFF = "The answer broke off, and the model could not go on with it"
"""Why an answer ends in an error of which text was shown."""


class BrokenStreamError(Exception):
    """A streamed reply ended too soon, after text of it had been passed on.

    Attributes:
        text: What had come.
    """

    def __init__(self, text: str) -> None:
        super().__init__("the model's reply broke off")
        self.text = text


def unbound(
    runnable: Runnable[Any, Any], config: RunnableConfig, settings: Mapping[str, Any]
) -> tuple[Runnable[Any, Any], RunnableConfig, Mapping[str, Any]]:
    """Split a bound model into model, config and settings. Calling the binding itself would reorder the callbacks."""
    while isinstance(runnable, RunnableBinding) and type(runnable).ainvoke is RunnableBinding.ainvoke:
        if runnable.config or runnable.config_factories:
            config = merge_configs(runnable.config, config)
            config = merge_configs(config, *(factory(config) for factory in runnable.config_factories))
        settings = {**runnable.kwargs, **settings}
        runnable = runnable.bound
    return runnable, config, settings


@dataclass(frozen=True, slots=True)
class ModelCall:
    """How to call one model for one purpose."""

    model: LoopModel
    stage: Stage
    """What for: the usage is counted there."""
    run: RunContext
    config: RunnableConfig
    settings: Mapping[str, Any]
    """Keyword arguments of the call, such as `max_tokens`."""
    trace: CallTrace = field(default_factory=CallTrace)
    """Numbers the tries of this call in traces, and redacts their errors."""
    label: str = ""

    @property
    def logged_as(self) -> str:
        """What the log calls it: by its label, or else by its stage."""
        return self.label or self.stage

    @property
    def why_late(self) -> str:
        """Why it has no reply when its time is over, as the end of a message; empty: it takes long."""
        failed = self.trace.last_failure
        return f"; the model's last try failed: {failed}" if failed else ""

    async def ask(
        self,
        messages: Prompt,
        *,
        on_text: Callable[[str], None] | None = None,
        prepare: Binder | None = None,
        offers_tool: bool = False,
        on_attempt: Callable[[], None] | None = None,
    ) -> Reply:
        """Ask, and ask again where the way to the model failed and that can help.

        Args:
            messages: The prompt, or what makes it when the call's turn has come: thousands may wait for theirs.
            on_text: Streams the reply: called with each piece as it comes, be it text or a tool call's arguments.
            prepare: Binds tools or a response format to the model.
            offers_tool: Whether `prepare` binds a tool for the reply. Tools that the caller bound are none.
            on_attempt: Called as each attempt begins.

        Raises:
            BrokenStreamError: A streamed reply broke off after text of it had been passed on.
            Exception: The provider's own, when the attempts are used up or can't help.
        """
        retry_policy = RetryPolicy(self.run.options)
        redactor = Redactor(self.model.secrets, hides_content=not self.run.trace.shows_content)
        was_of_another_loop = takes_system = False
        while True:
            if on_attempt is not None:
                on_attempt()
            # The HTTP client's event hook reads it. It is reset: the same task may call models of its own afterwards.
            limit_before = reply_char_limit.set(self.run.options.max_reply_chars)
            try:
                async with self.run.places(self.model.connections):
                    takes_system = self.model.takes_system
                    prompt = messages() if callable(messages) else messages
                    shared = self.run.invocation.last_shared
                    prompt = prompt if shared is None else self.model.prompt_cache.marked(prompt, shared)
                    prompt = self.model.shape_prompt(prompt if takes_system else without_system(prompt))
                    runnable = await self.model.for_running_loop()
                    if prepare is not None:
                        runnable = prepare(runnable)
                    runnable, config, settings = unbound(runnable, self.config, self.settings)
                    if self.model.prompt_cache.takes_key and self.run.options.prompt_cache == "auto":
                        # It tells the provider's cache which calls belong together.
                        settings = {"prompt_cache_key": self.run.prompt_cache_key, **settings}
                    config = self.trace.begin(config, redactor)
                    self.run.meter.begin_call(self.stage)
                    if on_text is None:
                        return await self._whole(runnable.ainvoke(prompt, config, **settings), prompt)
                    chunks: Any = runnable.astream(prompt, config, **settings)
                    return await self._streamed(chunks, on_text, prompt, with_tools=offers_tool)
            except BrokenStreamError as error:
                redactor.redact_failure(error.__cause__ or error)
                raise
            except asyncio.CancelledError:
                await self.trace.end(asyncio.CancelledError(GIVEN_UP))
                raise
            except Exception as error:
                redactor.redact_failure(error)
                needs_threads = is_of_another_loop(error) and not was_of_another_loop
                was_of_another_loop |= needs_threads
                adapts = self._adapt_to(error, needs_threads=needs_threads, takes_system=takes_system)
                wait = 0.0 if adapts else retry_policy.wait_after(error)
                if wait is None:
                    raise
                self.trace.last_failure = explain(error)
                logger.info("%s: %s; trying again in %.1f s", self.logged_as, self.trace.last_failure, wait)
            finally:
                reply_char_limit.reset(limit_before)
            await asyncio.sleep(wait)

    def _adapt_to(self, error: Exception, *, needs_threads: bool, takes_system: bool) -> bool:
        """Ask the model in another way from now on, if the error tells of one. Returns whether it does.

        `takes_system`: whether that try had system messages. A call beside this one may have changed the model's since.
        """
        if needs_threads:
            self.model.use_threads_from_now_on()
            return True
        if takes_system and refuses_system(error):
            self.model.takes_system = False
            logger.info("The model takes no system messages: what they say goes into the user's first turn.")
            return True
        return False

    async def _whole(self, reply: Awaitable[Any], prompt: Sequence[BaseMessage]) -> Reply:
        try:
            message = await reply
        except (LengthFinishReasonError, ContentFilterFinishReasonError) as error:
            message = reply_held_by(error)
        if not isinstance(message, AIMessage):
            message = AIMessage(content=text_of(message))
        written, most = text_of(message), self.run.options.max_reply_chars
        usage = message.usage_metadata
        self._count(usage, message.response_metadata, prompt, 0 if usage else -(-len(written) // CHARS_PER_TOKEN))
        if is_cut := len(written) > most:
            self._log_cut()
            cut = {"finish_reason": "length"}
            message = AIMessage(written[:most], response_metadata=cut, usage_metadata=usage)
        whole = Reply.of(message)
        if not is_cut:
            found = None if isinstance(prompt[-1], AIMessage) else whole.had_unopened_thought
            self.model.learn(self.stage, whole.reason, thinks_unopened=found)
        if whole.ending == "broken":
            raise UnfinishedReplyError(whole.reason)
        self.trace.last_failure = ""
        return whole

    async def _streamed(
        self,
        chunks: AsyncGenerator[Any],
        on_text: Callable[[str], None],
        prompt: Sequence[BaseMessage],
        *,
        with_tools: bool,
    ) -> Reply:
        is_prefilled = isinstance(prompt[-1], AIMessage)  # then there are no thoughts
        unopened = False if is_prefilled else self.model.thinks_unopened(self.stage)
        thoughts = ThoughtFilter(unopened=unopened, expects_structure=self.stage == "skeleton" or self.model.may_think)
        gathered = StreamedReply(thoughts, with_tools=with_tools, most_chars=self.run.options.max_reply_chars)
        is_whole = False
        try:
            await self._read(chunks, on_text, gathered, learns=not is_prefilled)
            is_whole = not gathered.is_full
            if piece := gathered.finish():
                on_text(piece)
            reply = gathered.reply()
            if reply.ending == "broken" or (reply.ending is None and self.model.tells_endings):
                raise UnfinishedReplyError(reply.reason)
        except (LengthFinishReasonError, ContentFilterFinishReasonError) as error:
            gathered.add_metadata(reply_held_by(error))
            reply = gathered.reply()
        except Exception as error:
            if gathered.has_begun:
                raise BrokenStreamError(gathered.text) from error
            raise
        finally:
            if gathered.chunks:
                # `chars` has no thoughts that the provider keeps apart. If nothing else came, each chunk is a token.
                written = -(-gathered.chars // CHARS_PER_TOKEN) or gathered.chunks
                least = 0 if is_whole and gathered.usage else written
                self._count(gathered.usage, gathered.response_metadata, prompt, least)
        if not gathered.is_full:
            found = None if is_prefilled else reply.had_unopened_thought
            self.model.learn(self.stage, reply.reason, thinks_unopened=found)
        return reply

    async def _read(
        self, chunks: AsyncGenerator[Any], on_text: Callable[[str], None], gathered: StreamedReply, *, learns: bool
    ) -> None:
        """Take the chunks of a streamed reply, in their time, until it ends or is full."""
        times_cancelled = asyncio.current_task().cancelling  # type: ignore[union-attr]
        cancelled_before = times_cancelled()
        now, limit = asyncio.get_running_loop().time, self.model.chunk_timeout
        async with asyncio.timeout(limit) as timer, closing_chain(chunks):
            async for chunk in chunks:
                if limit is not None:
                    timer.reschedule(now() + limit)
                if times_cancelled() > cancelled_before:
                    # A model's own `wait_for` may forget, in Python 3.11, a cancellation that comes with a piece.
                    raise asyncio.CancelledError
                self.trace.last_failure = ""
                if piece := gathered.add(chunk):
                    if learns and gathered.thoughts.found_unopened:  # points begin before this reply ends
                        self.model.learn(self.stage, None, thinks_unopened=True)
                    on_text(piece)
                if gathered.is_full:
                    self._log_cut()
                    return

    def _count(self, usage: Any, told: Mapping[str, Any], prompt: Sequence[BaseMessage], written: int) -> None:
        """Count a reply's tokens. `written`: how many were written, about, where `usage` may not say it, else 0."""
        is_told = not written and bool(usage and usage["input_tokens"])  # some say only what was written
        estimate = None if is_told else (tokens_of(prompt), written)
        price = self.model.price if self.model.is_one_model else self.model.price_of(told)
        self.run.meter.add_tokens(self.stage, usage, price=price, estimate=estimate)

    def _log_cut(self) -> None:
        most = f"{self.run.options.max_reply_chars:,}"
        logger.warning("%s: a reply of more than %s characters is cut there (max_reply_chars).", self.logged_as, most)


async def go_on(
    call: ModelCall, prompt: Prompt, broken: BrokenStreamError, *, on_attempt: Callable[[], None] | None = None
) -> tuple[str, Reply]:
    """Have the model go on from what it has written: at once, or when a busy provider may be asked again.

    Returns:
        What to append to the broken text, and the whole reply that it was taken from.

    Raises:
        Exception: The provider's own.
    """
    cause, written = broken.__cause__, broken.text
    if cause is not None and meaning_of(cause) == "busy":
        wait = RetryPolicy(call.run.options).wait_after(cause)
        if wait is None:
            raise cause
        await asyncio.sleep(wait)
    logger.info("A streamed reply broke off after %d characters; going on from there", len(written))
    messages, so_far = [*(prompt() if callable(prompt) else prompt)], written
    if isinstance(messages[-1], AIMessage):  # many chat templates refuse two turns of the model's in a row
        so_far = f"{messages.pop().text} {written.lstrip()}"
    reply = await call.ask([*messages, AIMessage(so_far), HumanMessage(_GO_ON)], on_attempt=on_attempt)
    return _continuation(written, reply.text), reply


def _continuation(written: str, reply: str) -> str:
    """What a reply adds to a text: without what it repeats, with the space that a reply doesn't begin with."""
    overlap = _overlap(written, reply)
    if overlap or not (written and reply) or _is_unspaced(written[-1]) or _is_unspaced(reply[0]):
        return reply[overlap:]
    needs_space = (written[-1].isalnum() or written[-1] in ",.;:!?)") and reply[0].isalnum()
    return " " + reply if needs_space else reply


def _is_unspaced(char: str) -> bool:
    """Whether the character's script puts no spaces between words: Chinese, Japanese, Thai, Burmese, Khmer, Lao."""
    ranges = (("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"), ("\u2e80", "\u9fff"))
    return any(first <= char <= last for first, last in ranges) or char > "\uff00"


def _overlap(written: str, continued: str) -> int:
    """How many characters at the start of a continuation repeat the end of what it continues."""
    longest = min(len(written), len(continued), _LONGEST_OVERLAP)
    for length in range(longest, 2, -1):
        if written.endswith(continued[:length]):
            return length
    # A reply that broke off inside a word is gone on with by the whole of it. A word that stands elsewhere is no half.
    last, first = _LAST_WORD.search(written), _FIRST_WORD.match(continued)
    if last and first and first[0].startswith(last[0]):
        is_word = re.search(rf"\b{last[0]}\b", written[: last.start()]) is not None
        return 0 if is_word and first[0] != last[0] else len(last[0])
    return 0
