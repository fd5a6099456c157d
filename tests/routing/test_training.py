"""The learned router's training: repeatable, honest about what it was trained on, and good enough."""

import re

import pytest

from sot_graph import LearnedRouter
from sot_graph.routing.learned_router import MAX_BYTES, SHIPPED
from training.router.measure import FILES, SHARED, Judged, accuracy, read_labelled
from training.router.questions import read_questions
from training.router.train import train, weights_text


@pytest.fixture(scope="module")
def router() -> LearnedRouter:
    return LearnedRouter()


def test_training_again_gives_the_shipped_weights():
    assert weights_text(train(read_questions())).encode() == SHIPPED.read_bytes(), "run `make router`"


def test_the_shipped_weights_are_small():
    assert SHIPPED.stat().st_size < MAX_BYTES


def _labelled(name: str) -> list[tuple[bool, str]]:
    file = SHARED / FILES[name]
    if not file.is_file():
        pytest.skip(f"{file} is not on this machine")
    return read_labelled(file)


# Measured 92.5 % and 76.6 % (docs/router.md); the targets are 88 % and 72 %.
@pytest.mark.parametrize(("name", "least"), [("Vicuna", 0.88), ("LIMA", 0.72)])
def test_accuracy_on_the_papers_labels(router, name, least):
    judged = [Judged(label, router.probability(text)) for label, text in _labelled(name)]
    assert accuracy(judged) >= least


@pytest.mark.parametrize("name", list(FILES))
def test_the_training_data_holds_nothing_of_the_papers_questions(name):
    theirs = [(_normal(text), _content(text)) for _, text in _labelled(name)]
    exact = {text for text, _ in theirs}
    for question in read_questions():
        assert _normal(question.text) not in exact
        own = _content(question.text)
        for text, words in theirs:
            alike = len(own & words) / max(1, len(own | words))
            # Two content words can meet by chance.
            assert alike < 0.7 or min(len(own), len(words)) < 3, (question.text, text)


_SMALL_WORD_LIST = """
    a an and are as at be by can could did do does for from had has have how i if in is it its me my of on or s should
    so some t that the there these this to was were what when where which who why will with would you your
"""
_SMALL_WORDS = frozenset(_SMALL_WORD_LIST.split())


def _normal(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def _content(text: str) -> frozenset[str]:
    return frozenset(_normal(text).split()) - _SMALL_WORDS


def test_training_questions_that_are_misshapen_are_named(tmp_path):
    (tmp_path / "a.txt").write_text("# fine\nS | What?\nX | no\n")
    with pytest.raises(ValueError, match=r"a\.txt:3"):
        read_questions(tmp_path)
    (tmp_path / "a.txt").write_text("S | What?\nD | what?\n")
    with pytest.raises(ValueError, match="twice"):
        read_questions(tmp_path)
