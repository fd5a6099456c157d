"""Points that are written by an agent with a search tool, their sources in one list. Offline.

    python examples/sources.py

The tool is a real one: SQLite's full-text search over the files of a folder. Each point's agent searches for itself,
all of them at the same time. The model is simulated: it searches for the point's title, and quotes what it finds.
"""

import re
import sqlite3
import tempfile
from pathlib import Path

from langchain.agents import create_agent
from langchain_core.tools import tool

from sot_graph import create_sot_graph
from sot_graph.testing import ChatRequest, Physics, Reply, SimulatedEndpoint, SkeletonResponder, ToolCall

FILES = {
    "light.md": "Sunlight drives growth. Most vegetables want six hours of it a day.",
    "soil.md": "Good soil is loose and full of compost. Dig a spade deep.",
    "water.md": "Water deeply twice a week. Roots follow the water down into the soil.",
}
TITLES = ["Sunlight", "Soil", "Water"]


def make_search(folder: Path):
    """A search tool over the files of a folder."""
    index = sqlite3.connect(":memory:", check_same_thread=False)
    index.execute("CREATE VIRTUAL TABLE files USING fts5(name, text)")
    for path in sorted(folder.glob("*.md")):
        index.execute("INSERT INTO files VALUES (?, ?)", (path.name, path.read_text(encoding="utf-8")))

    @tool(response_format="content_and_artifact")
    def search(query: str) -> tuple[str, list[dict]]:
        """Search the gardener's notes. Cite what you use by its name in brackets, as in [soil.md]."""
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query))
        found = index.execute(
            "SELECT name, text FROM files WHERE files MATCH ? ORDER BY rank LIMIT 2", (words,)
        ).fetchall()
        content = "\n".join(f"[{name}] {text}" for name, text in found)
        # The artifact is what the graph reads the sources from; `id` is what the text cites.
        return content or "Nothing found.", [{"id": name, "title": f"Notes: {name}"} for name, _ in found]

    return search


def simulated_model(request: ChatRequest) -> Reply:
    """Writes the skeleton; as a point's agent, searches for the title, then quotes each note that it has found."""
    if not request.tools:
        return SkeletonResponder(titles=TITLES)(request)
    last = request.messages[-1]
    if last["role"] != "tool":
        title = re.search(r"<point>\d+\. (.*?)</point>", request.last_user)[1]
        return Reply(tool_calls=[ToolCall("search", {"query": title})])
    notes = re.findall(r"\[(.+?)\] (.+?\.)", last["content"])
    return Reply(" ".join(f"{sentence} [{name}]" for name, sentence in notes))


def main() -> None:
    """One question over a folder of three files."""
    with (
        tempfile.TemporaryDirectory() as folder,
        SimulatedEndpoint(simulated_model, physics=Physics.instant()) as endpoint,
    ):
        for name, text in FILES.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        # An agent's own client leaves connections open; at the end of a script that would be a warning.
        model = endpoint.chat_model(default_headers={"Connection": "close"})
        graph = create_sot_graph(model, expander=create_agent(model, [make_search(Path(folder))]))

        for mode, data in graph.stream(
            {"question": "How do I start a vegetable garden?"}, stream_mode=["custom", "values"]
        ):
            if mode == "values":
                result = data
            elif data["type"] == "sot.point.tool" and data["state"] == "start":
                print(f"point {data['index']} searches: {data['input']}")

    print(f"\n{result['answer']}\n")
    print(result["usage"]["expansion"]["calls"], "calls of the points' agents")


if __name__ == "__main__":
    main()
