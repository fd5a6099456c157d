"""Whatever meets text from outside takes time in proportion to it: nobody's text stops the program.

Each reader is given 100,000 characters and four times that, of kinds that patterns and loops stumble over. What is
measured is this thread's CPU time, the least of several, so that a busy machine changes nothing.
"""

import gc
import logging
import time
from contextlib import suppress
from contextvars import copy_context
from email.message import Message
from functools import partial

import httpx
import openai
import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.messages.tool import tool_call_chunk

from sot_graph.citations import CitedText, Numbering, number_sources, without_its_citations
from sot_graph.cli.process import with_flag_names
from sot_graph.evaluation.text_checks import check_answer
from sot_graph.llm.openai_client import BoundedToolCall, reply_char_limit
from sot_graph.llm.provider_errors import explain
from sot_graph.llm.reply import StreamedReply
from sot_graph.llm.retry_policy import retry_after_seconds
from sot_graph.llm.thoughts import ThoughtFilter
from sot_graph.observability.langsmith_log_filter import OutageFilter
from sot_graph.observability.redaction import Redactor, without_keys
from sot_graph.prompts.delimiters import escape_delimiters
from sot_graph.prompts.messages import clean_text
from sot_graph.report.page import clean, shorten
from sot_graph.retrieval.documents import as_passages, read_documents, show_documents
from sot_graph.retrieval.grounding import TextIndex
from sot_graph.routing.learned_features import extract
from sot_graph.skeleton.answering_drafter import DraftReader, SkeletonForm
from sot_graph.skeleton.parser import TitleScanner, numbered_item, parse_skeleton
from sot_graph.skeleton.points import EarlyPoints, EnoughError, PointSieve, clean_titles, split_needs
from sot_graph.sources import list_sources, read_sources
from sot_graph.writing.cleaner import TextCleaner

LENGTH = 100_000
MOST_GROWTH = 6
"""Of the time, where the text is four times as long. What is quadratic takes 16 times as long."""
NOT_WORTH_MEASURING = 0.25
"""Seconds for 400,000 characters: what is quadratic takes more, were each of its steps a nanosecond."""
TRIES = 25

WORDS = [
    *(
        "a",
        "A1",
        "1",
        "*",
        "**a",
        "-",
        "a-",
        ".",
        "a.",
        " ",
        "\t",
        "\n",
        " \n",
        "_",
        "`",
        "```",
        "?",
        "! ",
        "$a",
        "a: ",
    ),
    *(
        "\u200b",
        "\u0301",
        "\ud83d",
        "\u2039 /",
        "\u3002",
        "[",
        "]",
        "{",
        "(",
        "<",
        "< ",
        "</",
        "<question>",
        '"',
        '\\"',
        "'",
    ),
    *(
        "[1]",
        "[1",
        "[1-",
        "[1]-",
        ":",
        ",",
        "://",
        "://a",
        "key=",
        "token=",
        "a@",
        "Bearer ",
        "sk-",
        "http://",
        "https://[",
    ),
    *(
        "trace=a,",
        "trace=a,id=a; ",
        "1. ",
        "1. a\n",
        "- a\n",
        '{"points":[',
        '"points" :',
        '{"a":',
        '["a",',
        "(needs 1, ",
    ),
    *("(needs ", "**a** ", "why "),
]
READ_AS_LISTS = (
    *("a skeleton", "a skeleton's stream", "a draft's stream", "a draft whose points begin early"),
    *("a point's stream", "a cited text", "a question"),
)

KEY = "abcd-efgh-ijkl"


class ProviderError(Exception):
    """An error that says all that a provider said."""

    def __init__(self, text, response):
        super().__init__(text)
        self.message, self.code, self.param = text, text, text
        self.body = {"error": {"message": text, "text": [text, {text: text}]}}
        self.response = response


def read_error(text):
    text = clean_text(text)
    response = httpx.Response(502, text=text, request=httpx.Request("POST", "http://127.0.0.1"))
    error = ProviderError(text, response)
    Redactor([KEY]).redact_error(error)
    explain(error)


def read_openai_error(text):
    response = httpx.Response(502, text=clean_text(text), request=httpx.Request("POST", "http://127.0.0.1"))
    error = openai.InternalServerError(text, response=response, body=text)
    Redactor([KEY]).redact_error(error)
    explain(error)


def read_headers(text):
    error = ProviderError("", httpx.Response(429))
    error.response = Message()  # any mapping of texts, of whoever's client
    error.response.headers = {"retry-after": text, "retry-after-ms": text}
    retry_after_seconds(error)


def read_log(text):
    for line in (text, f"http://127.0.0.1 {text}", f"Failed {text} trace="):
        OutageFilter().filter(logging.LogRecord("langsmith.client", logging.WARNING, "", 1, "%s", (line,), None))


def read_titles(text):
    sieve = PointSieve(depends=True, drop_similar=True)
    for raw in (*parse_skeleton(text), text):
        sieve.take(raw)
    numbered_item(text)
    split_needs(text)
    clean_titles(text.split("\n"), drop_similar=True)


def read_stream(text):
    for size in (16, 4_096):
        scanner = TitleScanner()
        early = EarlyPoints(PointSieve, 2_000, lambda _: None, [])
        early.begin_reply("1.")
        for piece in pieces(text, size):
            scanner.feed(piece)
        with suppress(EnoughError):
            for piece in pieces(text, size):
                early.feed(piece)


def read_draft(text, on_titles=None):
    for size in (16, 4_096):
        reading = DraftReader(SkeletonForm(3, 4_000), lambda _: None, on_titles, begins_early=on_titles is not None)
        for piece in pieces(text, size):
            reading.feed(piece)


def read_point(text):
    for size in (16, 4_096):
        for settings in ({}, {"trim_to_sentence": True}, {"prefill": "A point"}):
            cleaner = TextCleaner(1, "A point", **settings)
            for piece in pieces(text, size):
                cleaner.feed(piece)
            cleaner.finish(cut_off=True)


def read_cited(text):
    sources = read_sources(
        [{"id": "soil.md", "title": text, "url": "http://127.0.0.1/"}, {"id": "a, b", "title": "Sun"}]
    )
    list_sources([{**source, "number": 1} for source in sources])
    without_its_citations({"text": text, "sources": sources})
    for size in (16, 4_096):
        cited = CitedText(Numbering(), sources)
        for piece in pieces(text, size):
            cited.feed(piece)
        cited.finish()
    number_sources(
        [{"index": 1, "title": "", "text": text, "status": "ok", "error": None, "sources": sources}], Numbering()
    )


def read_call(text):
    context = copy_context()
    context.run(reply_char_limit.set, 4 * LENGTH)
    for start in ("", '{"a": "', '{"'):
        bounded, chunks = context.run(partial(BoundedToolCall, is_offered=True)), []
        for piece in pieces(start + text, 4_096):
            for one in bounded.pieces({"choices": [{"delta": {"tool_calls": [{"function": {"arguments": piece}}]}}]}):
                for call in one["choices"][0]["delta"].get("tool_calls", ()):
                    arguments = call["function"]["arguments"]
                    chunks.append(AIMessageChunk("", tool_call_chunks=[tool_call_chunk(args=arguments, index=0)]))
        add_ai_message_chunks(AIMessageChunk(""), *chunks)  # as LangChain does
    reply = StreamedReply(ThoughtFilter(), with_tools=True, most_chars=10**9)
    chunk = AIMessageChunk("")
    for piece in pieces(text, 256):  # of another package's model
        chunk.tool_call_chunks = [tool_call_chunk(args=piece, index=0)]
        reply.add(chunk)
    reply.reply()


def read_given(text):
    given = read_documents([{"text": text, "title": text[:2_000], "url": f"http://127.0.0.1/{text[:2_000]}"}, text])
    passages = as_passages(given, longest=2_000)
    show_documents(passages)
    TextIndex([passage["page_content"] for passage in passages]).search(text)


def read_question(text):
    extract(text)


def read_study_answer(text):
    text = f"A{text}B"  # what stands at an end is cut off
    check_answer("Why is that?", text, [{"title": text[:2_000], "text": text, "status": "ok"}] * 2)
    check_answer("Why is that?", text)


def read_picture(text):
    shorten(clean(text), 160)


def pieces(text, size):
    return (text[start : start + size] for start in range(0, len(text), size))


READERS = {
    "an error": read_error,
    "OpenAI's error": read_openai_error,
    "a header": read_headers,
    "a text with keys": lambda text: without_keys(text, [KEY]),
    "LangSmith's log": read_log,
    "a prompt's data": lambda text: escape_delimiters(clean_text(text)),
    "a skeleton": read_titles,
    "a skeleton's stream": read_stream,
    "a draft's stream": read_draft,
    "a draft whose points begin early": lambda text: read_draft(text, lambda _: None),
    "a point's stream": read_point,
    "a cited text": read_cited,
    "a call": read_call,
    "documents": read_given,
    "a question": read_question,
    "an answer of a study": read_study_answer,
    "a report": read_picture,
    "a message of the command's": with_flag_names,
}


def seconds(read, text):
    """CPU seconds of this thread."""
    gc.disable()
    try:
        started = time.thread_time()
        read(text)
        return time.thread_time() - started
    finally:
        gc.enable()


def grows_too_much(read, word, start):
    short, long = ((start + word * length)[:length] for length in (LENGTH, 4 * LENGTH))
    least_short = least_long = float("inf")
    for _ in range(TRIES):
        least_long = min(least_long, seconds(read, long))
        if least_long < NOT_WORTH_MEASURING:
            return None
        least_short = min(least_short, seconds(read, short))
        if least_long <= MOST_GROWTH * least_short:
            return None
    return f"{start!r} and {word!r}: {least_short:.2f} s, {least_long:.2f} s"


@pytest.mark.parametrize(
    ("reader", "start"), [*((reader, "") for reader in READERS), *((reader, "1. ") for reader in READ_AS_LISTS)]
)
def test_four_times_the_text_takes_four_times_the_time(reader, start):
    found = [growth for word in WORDS if (growth := grows_too_much(READERS[reader], word, start))]
    assert found == []
