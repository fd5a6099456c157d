"""What Studio draws and asks for, as the server tells it: graphs, and the schemas behind its forms."""

import json

import pytest

from sot_graph import SotContext

GRAPHS = ["sot_graph", "sot_graph_with_review", "agent"]


def drawn(graph):
    """The nodes and edges, one a line; a dotted edge is a conditional one."""
    edges = [
        f"{edge['source']} {'-.->' if edge.get('conditional') else '-->'} {edge['target']}" for edge in graph["edges"]
    ]
    return "\n".join(["nodes: " + ", ".join(str(node["id"]) for node in graph["nodes"]), *sorted(edges)])


@pytest.mark.parametrize("name", GRAPHS)
async def test_every_node_and_conditional_target_is_drawn_and_subgraphs_unfold(client, assistant_ids, snapshot, name):
    assert drawn(await client.assistants.get_graph(assistant_ids[name], xray=True)) == snapshot


async def test_folded_the_agent_shows_the_graph_as_one_node(client, assistant_ids, snapshot):
    assert drawn(await client.assistants.get_graph(assistant_ids["agent"])) == snapshot


async def test_each_graph_has_an_assistant_with_its_name_and_what_it_is_for(client, snapshot):
    found = await client.assistants.search()
    assert {assistant["name"]: assistant["description"] for assistant in found} == snapshot


def rows(schema):
    """A form's fields as readable lines: name, default and type with its bounds, description."""
    lines = []
    for name, given in sorted(schema["properties"].items()):
        kind = {key: value for key, value in given.items() if key not in ("title", "description", "default")}
        default = f" = {json.dumps(given['default'])}" if "default" in given else ""
        lines.append(f"{name}{default}  {json.dumps(_without_parts(kind), sort_keys=True)}\n    {given['description']}")
    return "\n".join(lines)


def _without_parts(kind):
    return {**kind, "items": "..."} if "items" in kind else kind


async def test_the_configuration_form_of_each_graph_has_every_option_with_its_description_type_and_default(
    client, assistant_ids, snapshot
):
    forms = [await client.assistants.get_schemas(assistant_ids[name]) for name in GRAPHS]
    options = forms[0]["context_schema"]
    assert set(options["properties"]) == set(SotContext.__annotations__)
    assert rows(options) == snapshot
    for form in forms:
        assert form["context_schema"]["properties"] == form["config_schema"]["properties"]
    assert forms[1]["context_schema"]["properties"] == options["properties"]
    [of_the_graph_inside] = forms[2]["context_schema"]["$defs"].values()
    assert of_the_graph_inside["properties"] == options["properties"]


async def test_the_input_form_says_what_each_field_is_and_takes_a_plain_question(client, assistant_ids, snapshot):
    schema = (await client.assistants.get_schemas(assistant_ids["sot_graph"]))["input_schema"]
    assert rows(schema) == snapshot
    assert "required" not in schema
