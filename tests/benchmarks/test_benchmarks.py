"""The benchmarks measure what they say, and the pages say what they measured."""

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.contenders import CONTENDERS, QUESTION, Setup, contending
from benchmarks.figures import Figure, Result
from benchmarks.pages import PAGES, blocks, filled
from benchmarks.physics import Limit
from benchmarks.results import RESULTS, Made, load, save
from benchmarks.rounds import Steps, interleaved
from benchmarks.targets import TARGETS
from sot_graph.testing import Physics, SimulatedEndpoint, SkeletonResponder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def endpoint():
    with SimulatedEndpoint(SkeletonResponder(points=5, words_per_point=20), physics=Physics.instant()) as running:
        yield running


async def whole(name, setup):
    async with contending(setup, name) as contenders:
        contender = contenders[name]
        if contender.answer is not None:
            return await contender.answer(QUESTION)
        return "".join([piece async for piece in contender.read(QUESTION)])


@pytest.mark.parametrize("name", CONTENDERS)
async def test_every_contender_gets_an_answer_with_all_points_in_their_full_length(endpoint, name):
    answer = await whole(name, Setup(endpoint.base_url, 5))
    assert len(answer.split()) >= 100
    if name != "direct":
        heads = [line for line in answer.splitlines() if line.startswith("**")]
        assert heads == [f"**{n}. {title}**" for n, title in enumerate(endpoint.responder.titles, 1)]


@pytest.mark.parametrize("name", [name for name in CONTENDERS if name != "direct"])
async def test_every_contender_makes_one_call_for_the_skeleton_and_one_a_point(endpoint, name):
    await whole(name, Setup(endpoint.base_url, 5))
    assert len(endpoint.requests) == 6


@pytest.mark.parametrize("name", [name for name in CONTENDERS if name != "direct"])
async def test_a_bound_on_points_at_once_binds_every_contender(endpoint, name):
    await whole(name, Setup(endpoint.base_url, 5, max_concurrency=2))
    assert endpoint.max_in_flight <= 2


def test_the_limit_is_two_first_tokens_the_shortest_skeleton_and_the_longest_point():
    limit = Limit(["ab", "cd"], [10, 30], Physics(0.5, 10.0))
    assert limit.skeleton_tokens == 6  # {"points":["ab","cd"]}: 22 characters
    assert limit.whole == pytest.approx(0.5 + 0.6 + 0.5 + 3.0)


def test_the_limit_with_few_places_has_each_point_take_the_one_that_is_free_first():
    limit = Limit(["ab"] * 3, [10, 10, 10], Physics(0.0, 10.0), max_concurrency=2)
    assert limit.whole == pytest.approx(limit.skeleton_tokens / 10 + 2.0)


def test_a_ratio_is_taken_within_each_round():
    assert Figure("s", (2.0, 6.0)).over(Figure("s", (1.0, 2.0))).values == (2.0, 3.0)


async def test_rounds_are_interleaved_and_shift_their_order():
    ran = []

    async def run(name):
        ran.append(name)

    ways = {name: lambda name=name: run(name) for name in "abc"}
    await interleaved(ways, 2, Steps())
    assert "".join(ran) == "abcbca"


def test_what_a_minute_measures_is_called_by_its_own_size_and_not_by_that_of_the_whole():
    (memory,) = (target for target in TARGETS if "memory" in target.title)
    quick, whole = Result("crowd", {}), Result("crowd", {})
    quick.add("peak memory, 50 at once", "sot_graph", "MB", [200.0])
    whole.add("peak memory, 50 at once", "sot_graph", "MB", [200.0])
    whole.add("peak memory, 1000 at once", "sot_graph", "MB", [390.0])
    shown = [memory.measured({"crowd": result}) for result in (quick, whole)]
    assert [(target.title.split(",")[0], figure.median) for target, figure in shown] == [
        ("peak memory of 50 questions at once", 200.0),
        ("peak memory of 1", 390.0),
    ]
    assert memory.measured({}) is None


def test_a_result_comes_back_from_its_file_as_it_went_in_and_names_no_machine(tmp_path):
    result = Result("even", {"points": 8})
    result.add("whole answer", "sot_graph", "s", [2.5, 2.25])
    path = save(result, Made("make bench", 2), tmp_path)
    assert load(path)[0] == result
    assert socket.gethostname() not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_the_page_are_those_of_the_committed_results(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert filled(text, blocks()) == text


def test_the_committed_results_are_of_one_machine_and_of_scenarios_that_there_are():
    made = [load(path)[1] for path in RESULTS.glob("*.json")]
    assert len({json.dumps(each["machine"], sort_keys=True) for each in made}) == 1
    listed = CliRunner().invoke(app, ["--list"]).output.splitlines()
    assert {path.stem for path in RESULTS.glob("*.json")} <= {line.split()[0] for line in listed}


def test_a_package_that_is_missing_is_told_in_one_line_with_what_installs_it(monkeypatch):
    def without_sqlite():
        message = "No module named 'langgraph.checkpoint.sqlite'"
        raise ModuleNotFoundError(message, name="langgraph.checkpoint.sqlite")

    monkeypatch.setattr("benchmarks.cli.scenarios", without_sqlite)
    result = CliRunner().invoke(app, ["--list"])
    assert result.exit_code == 1
    assert result.output.startswith("benchmarks: langgraph.checkpoint.sqlite is not installed.")
    assert result.output.strip().endswith("make sync")


def test_an_unknown_scenario_is_told_with_those_that_there_are():
    result = CliRunner().invoke(app, ["--scenario", "nonsense"])
    assert result.exit_code == 2
    assert "even" in result.output
