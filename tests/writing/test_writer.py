"""A text's pieces, as they are sent."""

from sot_graph.writing.cleaner import TextCleaner
from sot_graph.writing.writer import GrowingText

MOST_PIECES = 3_500  # docs/streaming.md says so


def pieces_of(text, size):
    pieces = []
    growing = GrowingText(TextCleaner, pieces.append, longest_delay=0)
    for start in range(0, len(text), size):
        growing.write(text[start : start + size])
    growing.end()
    growing.flush()
    return pieces


def test_a_text_of_ordinary_length_is_sent_as_it_comes():
    text = "word " * 500
    pieces = pieces_of(text, 5)
    assert "".join(pieces) == text.strip()
    assert len(pieces) >= 499


def test_a_very_long_text_is_few_pieces_so_that_they_can_wait_for_a_slow_reader():
    text = ("word " * 40_000).strip()
    for size in (1, 5):
        pieces = pieces_of(text, size)
        assert "".join(pieces) == text
        assert 1_000 < len(pieces) <= MOST_PIECES
