"""Your own words in the prompts, your own form for the answer. Runs on a scripted model: no key, no network.

python examples/custom_join_and_prompts.py
"""

from collections.abc import Sequence
from dataclasses import replace

from sot_graph import Expansion, PointwiseJoin, SkeletonPoint, SotOptions, SotPrompts, create_sot_graph
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

QUESTION = "How do bees make honey?"
POINTS = {
    "Collecting nectar": "A bee visits up to a hundred flowers on one trip.",
    "Changing the sugars": "Enzymes in her honey stomach split the sugar into simpler ones.",
    "Drying it": "In the hive, hundreds of wings fan the water out of it.",
}

# The defaults stay, one template changes. A placeholder that is missing or unknown is an error here, not later.
SCHOOL_PROMPTS = replace(
    SotPrompts(),
    expansion=(
        "Now write only this one point, for readers of ten years: <point>{index}. {title}</point>\n"
        "Length: {point_length}. No introduction, no conclusion."
    ),
)

# Written one point after the other. What stands in place of a missing point is yours to word, too.
flashcards = PointwiseJoin(head="Card {index}: {title}\n", separator="\n\n", missing="(lost)")


def with_contents(question: str, skeleton: Sequence[SkeletonPoint], expansions: Sequence[Expansion]) -> str:
    """Any callable can join: this one puts a title and a table of contents before the points."""
    contents = "\n".join(f"- {point['title']}" for point in skeleton)
    points = "\n\n".join(f"## {point['title']}\n\n{point['text']}" for point in expansions if point["status"] == "ok")
    return f"# {question}\n\n{contents}\n\n{points}"


def main() -> None:
    """One question, joined in two ways."""
    model = ScriptedChatModel(answer_skeleton_of_thought(list(POINTS), lambda ask: POINTS.get(ask.title, "Bees do.")))
    options = SotOptions(point_length="one short sentence")

    for join in (flashcards, with_contents):
        graph = create_sot_graph(model, join=join, prompts=SCHOOL_PROMPTS, options=options)
        print(graph.invoke({"question": QUESTION})["answer"])
        print("\n---\n")

    print("What the model was told for the last point:\n")
    print(model.calls[-1].messages[-1].text)

    # A run may set what may change from run to run; see the table in docs/options.md.
    short = graph.invoke({"question": QUESTION}, context={"min_points": 2, "max_points": 2})
    print("\nA run with at most two points:", [point["title"] for point in short["skeleton"]])


if __name__ == "__main__":
    main()
