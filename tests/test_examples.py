"""Every example runs as a user would run it: a process of its own, with warnings as errors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

# What an example must print, in this order.
PRINTED = {
    "subgraph.py": ["> Hello!", "[point 4: ok]", "**4. Watering well**", "human, ai, human, ai, human, ai"],
    "from_instructor.py": [
        "=== The script\n\n## Sunrise over Haleakala",
        "=== The graph\n\n## Sunrise over Haleakala",
        "the others are lost",
        "## Learning the hula\n\n*(This point is missing",
        "## Poke from a petrol station",
        "with what was finished (1 call)",
        "## Learning the hula\n\nOur teacher",
    ],
    "parents.py": ["=== Own keys\n\n**1. Seed**", "2 articles, 148 characters", "Dear reader,\n\n**1. Seed**"],
    "swarm.py": ["**3. Picking easy crops**", "> Thanks!\n\nYou are welcome.", "human, ai, tool, ai, human, ai"],
    "agent.py": [
        "**3. Picking hardy crops**",
        "[2 calls of the agent's, 3 of points]",
        "It is 12 degrees.\n\n[2 calls of the agent's, 0 of points]",
    ],
    "sources.py": ["compost. [2] Water deeply", "**Sources**\n\n1. Notes: light.md\n2. Notes: soil.md", "6 calls"],
    "custom_join_and_prompts.py": [
        "Card 3: Drying it\n",
        "# How do bees make honey?\n\n- Collecting nectar",
        "for readers of ten years: <point>3. Drying it</point>\nLength: one short sentence.",
        "at most two points: ['Collecting nectar', 'Changing the sugars']",
    ],
}
ON_THE_EMBEDDED_MODEL = {
    "documents.py": [" documents, ", "**1. ", "**3. ", "**Sources**\n\n1. ", ".md\n2. "],
    "quickstart.py": ["Skeleton: ", "**1. ", "**3. ", " calls, ", "tokens out"],
}


def run_example(name: str, folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("OPENAI_API_KEY", "OPENAI_BASE_URL")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def assert_printed_in_order(printed: str, expected: list[str]) -> None:
    position = 0
    for text in expected:
        position = printed.find(text, position)
        assert position >= 0, f"{text!r} is not there, or not in this order:\n{printed}"


def test_every_example_is_run_by_a_test():
    # `make test-ray` runs the one of Ray, which no environment has that isn't made for it.
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*PRINTED, *ON_THE_EMBEDDED_MODEL, "ray_batch.py"}


@pytest.mark.parametrize("name", PRINTED)
def test_the_example_runs_offline_without_a_warning(name, tmp_path):
    assert_printed_in_order(run_example(name, tmp_path), PRINTED[name])


@pytest.mark.local_model
@pytest.mark.parametrize("name", ON_THE_EMBEDDED_MODEL)
def test_the_example_runs_on_the_embedded_model(name, tmp_path):
    assert_printed_in_order(run_example(name, tmp_path), ON_THE_EMBEDDED_MODEL[name])
