"""A text's pieces, as they are sent."""

import asyncio

import pytest

from sot_graph.writing import writer
from sot_graph.writing.cleaner import TextCleaner
from sot_graph.writing.writer import GrowingText

MOST_PIECES = 3_500  # docs/streaming.md says so


async def pieces_of(text, size):
    pieces = []
    growing = GrowingText(TextCleaner, pieces.append, longest_delay=0)
    for start in range(0, len(text), size):
        growing.write(text[start : start + size])
    growing.end()
    growing.flush()
    return pieces


async def test_a_text_of_ordinary_length_is_sent_as_it_comes():
    text = "word " * 500
    pieces = await pieces_of(text, 5)
    assert "".join(pieces) == text.strip()
    assert len(pieces) >= 499


async def test_a_very_long_text_is_few_pieces_so_that_they_can_wait_for_a_slow_reader():
    text = ("word " * 40_000).strip()
    for size in (1, 5):
        pieces = await pieces_of(text, size)
        assert "".join(pieces) == text
        assert 1_000 < len(pieces) <= MOST_PIECES


@pytest.mark.parametrize("delay", [0, 0.01])
async def test_the_last_words_of_a_very_long_text_are_sent_though_its_model_stalls(monkeypatch, delay):
    monkeypatch.setattr(writer, "_STALLED_AFTER", 0.02)
    arrived = asyncio.Event()
    growing = GrowingText(TextCleaner, lambda piece: arrived.set() if "last" in piece else None, longest_delay=delay)
    growing.write("word " * 1_000)
    growing.write("the last")
    await arrived.wait()


async def test_what_waits_for_a_stall_is_sent_with_the_next_piece_of_ordinary_size(monkeypatch):
    monkeypatch.setattr(writer, "_STALLED_AFTER", 3600)
    sent = asyncio.Queue()
    growing = GrowingText(TextCleaner, sent.put_nowait, longest_delay=0.001)
    growing.write("word " * 1_000)
    await sent.get()
    growing.write("a ")
    growing.write("piece of more than ten characters")
    assert (await sent.get()).strip() == "a piece of more than ten characters"


def test_a_text_that_is_begun_anew_has_neither_ending_nor_cut():
    growing = GrowingText(TextCleaner, lambda piece: None, longest_delay=0)
    growing.end("length")
    growing.restart()
    assert (growing.truncated, growing.ending) == (False, None)
