"""Points that are written without the conversation, from the question and a note of the skeleton's."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from sot_graph import SotOptions, SotPrompts, create_sot_graph
from sot_graph.skeleton.points import split_note
from sot_graph.testing import Physics, SimulatedEndpoint, SkeletonResponder

HISTORY = [HumanMessage("My balcony faces north."), AIMessage("Good to know.")]
ASKED = HumanMessage("What should I plant?")
TITLES = ["Ferns (recall: the balcony faces <north>)", "Water", "Soil (needs 1) (recall: clay pots)"]
ALONE = SotOptions(point_context="question")


@pytest.fixture
def endpoint():
    with SimulatedEndpoint(SkeletonResponder(titles=TITLES), physics=Physics.instant()) as running:
        yield running


def prompts_of(endpoint):
    """The skeleton's prompt, and the points' by their number."""
    first, *points = [entry.request for entry in endpoint.requests]
    return first, sorted(points, key=lambda request: request.last_user[request.last_user.index("<point>") :])


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
@pytest.mark.parametrize("skeleton_format", ["structured", "list"])
async def test_points_read_the_question_and_their_note_and_nothing_of_the_conversation(
    endpoint, dispatch, skeleton_format
):
    options = SotOptions(point_context="question", dispatch=dispatch, skeleton_format=skeleton_format)
    graph = create_sot_graph(endpoint.chat_model(), options=options)
    result = await graph.ainvoke({"messages": [SystemMessage("Be kind."), *HISTORY, ASKED]})
    first, points = prompts_of(endpoint)
    assert "My balcony" in first.text
    assert "(recall:" in first.last_user
    assert [point["title"] for point in result["skeleton"]] == ["Ferns", "Water", "Soil (needs 1)"]
    assert [point.get("note") for point in result["skeleton"]] == ["the balcony faces <north>", None, "clay pots"]
    for request in points:
        assert "My balcony" not in request.text
        assert "(recall:" not in request.text
        assert "What should I plant?" in request.text
        assert "Be kind." in request.system
    assert ["<note>\nthe balcony faces <north>\n</note>" in request.last_user for request in points] == [
        True,
        False,
        False,
    ]
    assert [request.text.count("<note>") for request in points] == [1, 0, 1]


async def test_without_a_conversation_nothing_is_to_be_recalled(endpoint):
    await create_sot_graph(endpoint.chat_model(), options=ALONE).ainvoke({"messages": [ASKED]})
    assert "recall:" not in prompts_of(endpoint)[0].text


async def test_points_with_the_conversation_are_the_default_and_no_title_says_what_it_recalls(endpoint):
    await create_sot_graph(endpoint.chat_model()).ainvoke({"messages": [*HISTORY, ASKED]})
    first, points = prompts_of(endpoint)
    assert "recall:" not in first.text
    assert all("My balcony" in request.text for request in points)


async def test_a_picture_of_the_questions_stays(endpoint):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    asked = HumanMessage([{"type": "text", "text": "What is this?"}, picture])
    await create_sot_graph(endpoint.chat_model(), options=ALONE).ainvoke({"messages": [*HISTORY, asked]})
    _, points = prompts_of(endpoint)
    assert all("AAAA" in str(request.messages) and "My balcony" not in request.text for request in points)


async def test_a_note_is_kept_where_points_are_written_again(endpoint):
    graph = create_sot_graph(endpoint.chat_model(), options=ALONE)
    result = await graph.ainvoke({"messages": [*HISTORY, ASKED]})
    result["expansions"][0] |= {"status": "failed", "text": "", "error": "lost"}
    endpoint.reset()
    again = await graph.ainvoke(
        {"messages": [*HISTORY, ASKED], "given_skeleton": result["skeleton"], "given_expansions": result["expansions"]}
    )
    assert [one["status"] for one in again["expansions"]] == ["ok"] * 3
    assert "the balcony faces" in endpoint.requests[0].request.last_user


async def test_a_given_note_is_cleaned_and_cut_as_a_models_is(endpoint):
    note = f"its \ud800 balcony\0 {'faces north ' * 100}"
    given = [{"title": "Light", "note": note}, {"title": "Soil", "note": " \u200b"}]
    result = await create_sot_graph(endpoint.chat_model(), options=ALONE).ainvoke(
        {"messages": [*HISTORY, ASKED], "given_skeleton": given}
    )
    assert [one["status"] for one in result["expansions"]] == ["ok"] * 2
    cleaned = result["skeleton"][0]["note"]
    assert cleaned.startswith("its balcony faces north")
    assert len(cleaned) <= 300
    assert "note" not in result["skeleton"][1]


async def test_a_prompt_of_ones_own_may_ask_for_no_notes(endpoint):
    graph = create_sot_graph(endpoint.chat_model(), options=ALONE, prompts=SotPrompts(recall=""))
    await graph.ainvoke({"messages": [*HISTORY, ASKED]})
    assert "recall:" not in prompts_of(endpoint)[0].text


@pytest.mark.parametrize(
    ("raw", "title", "note"),
    [
        ("Light (recall: it faces north)", "Light", "it faces north"),
        ("Light (Recall:  two\u200b  words ).", "Light", "two words"),
        ("Light (recall: )", "Light", ""),
        ("Light (north)", "Light (north)", ""),
        ("Recall: the rules", "Recall: the rules", ""),
    ],
)
def test_a_note_stands_behind_its_title(raw, title, note):
    assert split_note(raw) == (title, note)
