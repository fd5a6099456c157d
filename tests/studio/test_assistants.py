"""Configured assistants: options that are set in Studio's form hold for their runs."""

import asyncio

import pytest

ASK = {"question": "How do I keep a garden?"}


async def points_of(client, assistant, **run):
    return len((await client.runs.wait(None, assistant, input=ASK, **run))["skeleton"])


@pytest.mark.parametrize("by", ["context", "configurable"])
async def test_an_assistant_with_four_points_at_most_writes_four_and_a_run_may_say_otherwise(client, by):
    def configured(points):
        options = {"max_points": points}
        return {"context": options} if by == "context" else {"config": {"configurable": options}}

    assistant = await client.assistants.create("sot_graph", name="brief", **configured(4))
    brief = assistant["assistant_id"]
    try:
        written = await asyncio.gather(
            points_of(client, brief),
            points_of(client, brief, **configured(2)),
            points_of(client, "sot_graph", **configured(2)),
            points_of(client, "sot_graph"),
        )
    finally:
        await client.assistants.delete(brief)
    assert written == [4, 2, 2, 8]


async def test_the_options_of_the_agents_assistant_reach_the_graph_inside(client):
    given = {"messages": [{"role": "user", "content": "What are good tips for keeping a garden?"}]}
    result = await client.runs.wait(None, "agent", input=given, context={"sot": {"max_points": 4}})
    assert result["messages"][-1]["content"].count("\n\n**") == 3


async def test_a_value_out_of_its_bounds_is_told_in_one_line(client, endpoint):
    with pytest.raises(Exception, match=r"SotOptions\.max_points=0: Input should be greater than or equal to 1"):
        await points_of(client, "sot_graph", context={"max_points": 0})
    assert endpoint.requests == []
