"""What docs/studio.md shows is so."""

import re
from pathlib import Path

import pytest

from sot_graph.studio import build_agent
from sot_graph.testing import ScriptedChatModel, SkeletonResponder, answer_skeleton_of_thought

PAGE = Path(__file__).parents[2] / "docs" / "studio.md"
TITLES = ["Sowing seeds", "Watering plants", "Pulling weeds", "Spreading compost"]

_EDGE = re.compile(r"([\w:]+)(?:\(\[\w+\]\))? (-->|-\.->) ([\w:]+)")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def scripted_agent():
    return build_agent(ScriptedChatModel(answer_skeleton_of_thought()))


def test_the_agent_is_drawn_as_it_is(scripted_agent):
    [drawn] = blocks("mermaid")
    real = scripted_agent.get_graph(xray=True).draw_mermaid(with_styles=False).replace(r"\3a", ":")
    inside = {tuple(part.removeprefix("long_answer:") for part in edge) for edge in _EDGE.findall(real)}
    assert set(_EDGE.findall(drawn)) == inside - {("__end__", "-->", "__end__")}


def test_every_snippet_runs_against_the_real_server(server, endpoint, capsys):
    endpoint.responder = SkeletonResponder(titles=TITLES, text=lambda ask: f"About {ask.title}.")
    namespace = {"__name__": "snippet"}
    for code in blocks("python"):
        exec(compile(code.replace("http://127.0.0.1:2024/KEY", server.url), str(PAGE), "exec"), namespace)
    assert capsys.readouterr().out.startswith(
        "['Sowing seeds', 'Watering plants', 'Pulling weeds']\n"
        f"{TITLES}\n"
        "the skeleton was edited\n"
        "**1. Sowing seeds**\n\nAbout Sowing seeds."
    )
    assert namespace["reply"].content.endswith("**4. Spreading compost**\n\nAbout Spreading compost.")
