"""What these tests share: a model that cites what its prompt shows it, and says what it was shown."""

import re

import pytest

from sot_graph import create_sot_graph
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

TITLES = ["Sunlight", "Soil", "Water"]
_NUMBER = re.compile(r'<document number="(\d+)">')


def shown_numbers(messages):
    """The numbers of the documents in a prompt, in their order."""
    return [int(number) for message in messages for number in _NUMBER.findall(str(message.text))]


def citing_model(cite=None, titles=TITLES):
    """A model whose points cite the first document that they are shown, or what `cite` makes of the numbers."""
    plain = answer_skeleton_of_thought(list(titles), "About {title}.")

    def respond(messages):
        text, numbers = plain(messages), shown_numbers(messages)
        if not text.startswith("About") or cite is None:
            return text
        return f"{text[:-1]} {cite(numbers)}."

    return ScriptedChatModel(respond)


def point_calls(model):
    """The prompts of a model's points, by their titles."""
    calls = {}
    for call in model.calls:
        if found := re.search(r"<point>\d+\. (.*?)</point>", str(call.messages[-1].text)):
            calls[found[1]] = call.messages
    return calls


@pytest.fixture
def make_graph():
    """A graph of a model that cites the first document that it sees, and the model."""

    def make(cite=lambda numbers: f"[{numbers[0]}]" if numbers else "[1]", **kwargs):
        model = citing_model(cite)
        return create_sot_graph(model, **kwargs), model

    return make
