"""What the graph looks like."""

from sot_graph import build_sot_graph, create_sot_graph
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought


def test_the_graph_is_drawn_with_every_node_and_edge(snapshot):
    graph = create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought()))
    assert graph.get_graph().draw_mermaid(with_styles=False) == snapshot


def test_the_builder_gives_the_same_graph():
    model = ScriptedChatModel(answer_skeleton_of_thought())
    built = build_sot_graph(model).compile(name="sot_graph")
    assert built.get_graph().draw_mermaid() == create_sot_graph(model).get_graph().draw_mermaid()


def test_the_graph_has_the_name_it_is_given():
    assert create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought()), name="essay").get_name() == "essay"


def test_input_output_and_context_schemas_say_what_goes_in_and_out(snapshot):
    graph = create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought()))
    assert sorted(graph.get_input_jsonschema()["properties"]) == snapshot
    assert sorted(graph.get_output_jsonschema()["properties"]) == snapshot
    assert graph.get_context_jsonschema()["properties"] == snapshot
