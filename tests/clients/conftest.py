"""What every client has to show: one bubble that only grows, whose first text comes while points are being written."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from langgraph.graph import START, MessagesState, StateGraph

from sot_graph import SotOptions, create_sot_graph
from sot_graph.testing import SkeletonResponder
from tests.support.chat_requests import point_number
from tests.support.clients import served

TITLES = ["Sowing seeds", "Watering plants", "Pulling weeds", "Spreading compost"]
QUESTION = "What are good tips for keeping a garden?"
TEXT = "About {title}, at length."


def answer_of(titles, text=TEXT):
    """What the graph answers with this skeleton."""
    points = enumerate(titles, 1)
    return "\n\n".join(f"**{number}. {title}**\n\n{text.format(title=title)}" for number, title in points)


ANSWER = answer_of(TITLES)
OTHER_ORDER = [TITLES[0], TITLES[2], TITLES[1], TITLES[3]]


class Shown:
    """What a client shows, as it changes.

    The last point isn't written before the first one can be read: `release` lets it be.
    """

    def __init__(self, release, begins):
        self._release = release
        self._begins = begins
        self._bubbles = {}
        self.history: list[list[str]] = []
        """The texts of the bubbles of the answer, at each change."""

    @property
    def ids(self):
        """Of the messages."""
        return set(self._bubbles)

    def add(self, key, text):
        """A client that adds up pieces by their message's id."""
        self._bubbles[key] = self._bubbles.get(key, "") + text
        self.see(list(self._bubbles.values()))

    def see(self, texts):
        """The client shows these texts now."""
        self.history.append(list(texts))
        if any(text.startswith(self._begins) for text in texts):
            self._release()

    def is_live(self, final=ANSWER):
        """Assert that one bubble was shown, that it only grew, and that it became the answer."""
        assert self.history
        assert {len(texts) for texts in self.history} <= {0, 1}
        text, times = "", 0
        for (now,) in filter(None, self.history):
            assert now.startswith(text)
            times += now != text
            text = now
        assert times >= 2
        assert text == final


@pytest.fixture
def showing(endpoint):
    """Opens a `Shown` for the next run. It ends with an error if no text was shown before all points were written."""

    @contextmanager
    def show(text: str = TEXT) -> Iterator[Shown]:
        endpoint.responder = SkeletonResponder(titles=TITLES, text=lambda ask: text.format(title=ask.title))
        # One that is never complete: it ends when it is let go, or with an error for the point that waited.
        with endpoint.hold(2, point_number(len(TITLES)), timeout=60) as hold:
            yield Shown(hold.release, f"**1. {TITLES[0]}**\n\n{text.split(maxsplit=1)[0]}")

    return show


@pytest.fixture
def serve():
    """Serves an ASGI application until the test ends; gives its address."""
    with ExitStack() as running:
        yield lambda app: running.enter_context(served(app))


@pytest.fixture(params=["send", "pipelined"])
def dispatch(request):
    """Both ways to begin points."""
    return request.param


@pytest.fixture(params=["at the root", "as a node"])
def make_graph(request, endpoint, dispatch):
    """Makes the graph itself, or a parent that has it as a node."""

    def make(checkpointer=None):
        options = SotOptions(dispatch=dispatch)
        if request.param == "at the root":
            return create_sot_graph(endpoint.chat_model(), options=options, checkpointer=checkpointer)
        builder = StateGraph(MessagesState)
        builder.add_node("answer", create_sot_graph(endpoint.chat_model(), options=options))
        builder.add_edge(START, "answer")
        return builder.compile(checkpointer=checkpointer)

    return make
