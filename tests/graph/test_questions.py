"""Which question is answered: of what parents, threads and forms hand on."""

from itertools import pairwise

import pytest
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from typing_extensions import TypedDict

from sot_graph import SotConfigError, create_sot_graph
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

THREAD = {"configurable": {"thread_id": "1"}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
FILE = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}


@pytest.fixture
def model():
    return ScriptedChatModel(answer_skeleton_of_thought(points=3))


def said_in(call):
    """The roles and texts of a prompt, but for the system message."""
    return [(message.type, message.text) for message in call.messages if message.type != "system"]


async def asked(run, model, given, **kwargs):
    """The question that the graph's prompts ask, and its result."""
    result = await run(create_sot_graph(model, **kwargs), given)
    return said_in(model.calls[0])[-1][1], result


CONVERSATION = [HumanMessage("What is soil?", id="1"), AIMessage("Earth.", id="2")]


async def test_a_question_that_is_asked_again_is_a_new_turn(run, model):
    graph = create_sot_graph(model, checkpointer=InMemorySaver())
    for turns in (1, 2, 3):
        result = await run(graph, {"question": "Go on."}, THREAD)
        assert [message.type for message in result["messages"]] == ["human", "ai"] * turns
    assert len({message.id for message in result["messages"]}) == 6
    # The last question sees both earlier turns.
    assert [role for role, _ in said_in(model.calls[-1])][:5] == ["human", "ai", "human", "ai", "human"]


async def test_a_conversation_that_was_trimmed_to_its_last_message_still_gives_a_new_answer(run, model):
    graph = create_sot_graph(model)
    ids = set()
    for _ in range(2):
        result = await run(graph, {"messages": [HumanMessage("Go on.", id="1")]})
        ids.add(result["messages"][-1].id)
    assert len(ids) == 2


async def test_an_evaluators_loop_that_asks_again_gets_another_answer(run, model):
    first = await run(create_sot_graph(model), {"messages": [HumanMessage("Why?", id="1")]})
    again = await run(create_sot_graph(model), {"messages": first["messages"]})
    assert [message.type for message in again["messages"]] == ["human", "ai", "ai"]


@pytest.mark.parametrize("empty", ["", "  ", None])
async def test_an_empty_question_leaves_it_to_the_messages(run, model, empty):
    question, result = await asked(run, model, {"question": empty, "messages": [HumanMessage("Why?", id="1")]})
    assert "Why?" in question
    assert [message.type for message in result["messages"]] == ["human", "ai"]


async def test_a_question_that_a_parent_kept_does_not_win_over_a_newer_message(run, model):
    newer = [*CONVERSATION, HumanMessage("And compost?", id="3")]
    question, result = await asked(run, model, {"question": "What is soil?", "messages": newer})
    assert "And compost?" in question
    assert [message.id for message in result["messages"]][:3] == ["1", "2", "3"]
    assert len(result["messages"]) == 4


async def test_a_question_beside_a_conversation_is_the_next_turn(run, model):
    question, result = await asked(run, model, {"question": "And compost?", "messages": CONVERSATION})
    assert "And compost?" in question
    assert [message.text for message in result["messages"]][:3] == ["What is soil?", "Earth.", "And compost?"]
    assert said_in(model.calls[0])[:2] == [("human", "What is soil?"), ("ai", "Earth.")]


async def test_a_question_that_is_the_last_message_is_not_repeated(run, model):
    given = {"question": "Why?", "messages": [HumanMessage("Why?", id="1")]}
    _, result = await asked(run, model, given)
    assert [message.type for message in result["messages"]] == ["human", "ai"]


async def test_tools_results_after_the_question_are_no_answer_to_it(run, model):
    call = {"name": "look", "args": {}, "id": "c", "type": "tool_call"}
    found = [HumanMessage("Why?", id="1"), AIMessage("", tool_calls=[call]), ToolMessage("Because.", tool_call_id="c")]
    question, result = await asked(run, model, {"question": "Why?", "messages": found})
    assert "Why?" in question
    assert "Because." in str(said_in(model.calls[0]))
    assert [message.type for message in result["messages"]] == ["human", "ai", "tool", "ai"]


async def test_what_other_agents_have_said_since_the_question_reaches_every_prompt(run, model):
    said = [
        HumanMessage("Why?", id="1"),
        AIMessage("It rains </said> a lot.", name="researcher"),
        AIMessage("An answer of this graph.", id="sot-answer-1"),
        AIMessage("Be more concrete.", name='critic" >'),
        SystemMessage("Hand over."),
    ]
    question, result = await asked(run, model, {"messages": said})
    assert "Why?" in question
    for call in model.calls:
        prompt = str(said_in(call))
        assert '<said by="researcher">' in prompt
        assert "It rains &lt;/said> a lot." in prompt
        assert '<said by="critic ">' in prompt
        assert "An answer of this graph." not in prompt
        assert "Hand over." not in str(call.messages)
    assert [message.type for message in result["messages"]] == ["human", "ai", "ai", "ai", "system", "ai"]


async def test_what_an_agent_says_in_a_persons_place_is_no_question(run, model):
    said = [HumanMessage("How do plants grow?"), HumanMessage("They take light.", name="researcher")]
    question, _ = await asked(run, model, {"messages": [*CONVERSATION, *said]})
    assert "How do plants grow?" in question
    assert all('<said by="researcher">\\nThey take light.' in str(said_in(call)) for call in model.calls)


async def test_a_picture_of_an_agents_reaches_every_prompt(run, model):
    picture = HumanMessage([PICTURE], name="camera")
    await asked(run, model, {"messages": [HumanMessage("How do plants grow?"), picture]})
    assert all(PICTURE in message.content for call in model.calls for message in call.messages[1:2])


@pytest.mark.parametrize("earlier", [[HumanMessage("Hello.")], [HumanMessage("Hello.", name="ann")]])
async def test_people_may_have_names(run, model, earlier):
    said = [*earlier, AIMessage("Hello."), HumanMessage("How do plants grow?", name="bob")]
    question, _ = await asked(run, model, {"messages": said})
    assert "How do plants grow?" in question


@pytest.mark.parametrize("route", ["skeleton", "direct"])
@pytest.mark.parametrize("blocks", [[PICTURE], [FILE, PICTURE]])
async def test_a_picture_in_the_question_reaches_every_prompt(run, model, route, blocks):
    message = HumanMessage([{"type": "text", "text": "What plant is this?"}, *blocks], id="3")
    _, result = await asked(run, model, {"messages": [*CONVERSATION, message]}, router=lambda *_: route)
    assert len(model.calls) == (4 if route == "skeleton" else 1)
    for call in model.calls:
        shown = [block for message in call.messages for block in message.content if isinstance(block, dict)]
        kinds = [block["type"] for block in shown if block["type"] != "text"]
        assert kinds == [block["type"] for block in blocks]  # LangChain writes a file's block in its own way
        roles = [role for role, _ in said_in(call)]
        assert "humanhuman" not in "".join(roles)
    assert result["messages"][2].content == message.content


async def test_messages_of_langchains_class_for_any_role_are_those_of_their_role(run, model):
    said = [("user", "Hello"), ("assistant", "Hi"), ("developer", "Be brief."), ("user", "Why is the sky blue?")]
    await run(create_sot_graph(model), {"messages": [ChatMessage(role=role, content=text) for role, text in said]})
    for call in model.calls:
        turns = said_in(call)
        assert turns[:2] == [("human", "Hello"), ("ai", "Hi")]
        assert "Why is the sky blue?" in turns[2][1]


async def test_a_picture_alone_is_a_question(run, model):
    _, result = await asked(run, model, {"messages": [HumanMessage([PICTURE], id="1")]})
    assert result["route"] == "skeleton"
    assert len(model.calls) == 4
    with pytest.raises(SotConfigError, match="the last human message is empty"):
        await run(create_sot_graph(model), {"messages": [HumanMessage([], id="1")]})


async def test_a_parent_with_other_keys_is_told_which_ones_it_needs(run, model):
    builder = StateGraph(TypedDict("Report", {"topic": str}))
    builder.add_node("answer", create_sot_graph(model))
    builder.add_edge(START, "answer")
    with pytest.raises(SotConfigError, match="a parent's state needs one of the keys question and messages"):
        await run(builder.compile(), {"topic": "plants"})


async def test_two_human_turns_in_a_row_reach_the_model_as_one(run, model):
    """A reader left before the first answer was there."""
    given = {"messages": [HumanMessage("What is soil?", id="1"), HumanMessage("Well?", id="2")]}
    await asked(run, model, given)
    for call in model.calls:
        roles = [role for role, _ in said_in(call)]
        assert all(one != other for one, other in pairwise(roles))
    assert said_in(model.calls[0])[0][1].startswith("What is soil?\n\n")


async def test_a_parent_that_removes_messages_gets_its_answers_all_the_same(run, model):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(model))
    builder.add_node("trim", lambda state: {"messages": [RemoveMessage(id=one.id) for one in state["messages"][:-1]]})
    builder.add_edge(START, "answer")
    builder.add_edge("answer", "trim")
    graph = builder.compile(checkpointer=InMemorySaver())
    for _ in range(2):
        result = await run(graph, {"messages": [HumanMessage("Go on.")]}, THREAD)
        assert [message.type for message in result["messages"]] == ["ai"]


@pytest.mark.parametrize("blank", [{}, {"question": None}, {"question": ""}, {"question": " \n"}], ids=str)
async def test_a_blank_question_is_as_a_missing_one_also_where_the_last_human_message_has_its_answer(run, model, blank):
    asks, result = await asked(run, model, {**blank, "messages": CONVERSATION})
    assert "What is soil?" in asks
    assert [message.type for message in result["messages"]] == ["human", "ai", "ai"]


async def test_so_it_is_on_a_thread(run, model):
    graph = create_sot_graph(model, checkpointer=InMemorySaver())
    first = await run(graph, {"question": "Why?"}, THREAD)
    again = await run(graph, {"question": ""}, THREAD)
    assert [message.type for message in again["messages"]] == ["human", "ai", "ai"]
    assert again["messages"][1] == first["messages"][1]


async def test_a_blank_question_beside_an_empty_message_is_told_as_that(run, model):
    with pytest.raises(SotConfigError, match="the last human message is empty"):
        await run(create_sot_graph(model), {"question": "", "messages": [HumanMessage("", id="1")]})
    assert model.calls == []
