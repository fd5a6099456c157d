"""The command, from the command line to the exit status."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sot_graph.cli.app import app
from sot_graph.testing import CutOff, Fault, Physics, SimulatedEndpoint, SkeletonResponder, Status
from tests.support.strict_endpoint import StrictEndpoint

TITLES = ["Alpha one", "Beta two", "Gamma three"]
KEYS = {"answer", "finish_reason", "route", "route_reason", "skeleton", "expansions", "sources", "frame"}
KEYS |= {"usage", "timings", "messages", "unsupported_citations"}


@pytest.fixture
def endpoint() -> Iterator[StrictEndpoint]:
    responder = SkeletonResponder(titles=TITLES, text=lambda ask: f"About {ask.title or 'all'} 😀.")
    with StrictEndpoint(responder, physics=Physics.instant()) as running:
        yield running


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if "OPENAI" not in name and "SOT_" not in name}
    return subprocess.run(
        [sys.executable, "-m", "sot_graph", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**inherited, "PYTHONIOENCODING": "utf-8", **environment},
        timeout=120,
        check=False,
    )


def ask(endpoint: SimulatedEndpoint, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return run("ask", *arguments, "--base-url", endpoint.base_url, "--model", "m", **options)


def imported(*arguments: str, **environment: str) -> str:
    """What of the libraries that take seconds to import a command has imported by its end."""
    heavy = ("langgraph", "langchain_core", "langchain_openai", "langsmith", "openai", "instructor", "numpy")
    report = f"import sys; print('imported:', [name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    code = f"import sys; sys.argv = ['sot-graph', *{arguments!r}]\nfrom sot_graph.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", f"import atexit\ndef report():\n    {report}\natexit.register(report)\n{code}"],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )
    return ran.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], ["-h"], ["--version"], []])
def test_help_and_version_import_neither_langgraph_nor_openai(arguments: list[str]):
    assert imported(*arguments) == "imported: []"


@pytest.mark.parametrize("environment", [{}, {"LANGSMITH_TRACING": "true"}], ids=["untraced", "traced"])
def test_a_route_without_a_model_imports_none_of_what_a_model_needs(environment: dict[str, str]):
    assert imported("route", "What is 17 * 23?", **environment) == "imported: []"


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "-h"]])
def test_help_says_what_there_is(arguments: list[str]):
    ran = run(*arguments, COLUMNS="200")
    assert ran.returncode == 0
    assert "ask" in ran.stdout
    assert ran.stderr == ""


def test_the_version_is_the_packages():
    from sot_graph import __version__

    assert run("--version").stdout == f"sot-graph {__version__}\n"


@pytest.mark.parametrize(
    "how", [[], ["--answer-only"], ["--show-skeleton"], ["--show-skeleton", "--dispatch", "pipelined"]]
)
def test_in_a_pipe_the_answer_is_plain_text_and_stands_alone_unless_the_skeleton_is_wanted(
    endpoint: SimulatedEndpoint, how: list[str]
):
    ran = ask(endpoint, "How?", *how)
    assert (ran.returncode, ran.stderr) == (0, "")
    skeleton = "Skeleton\n\n1. Alpha one\n2. Beta two\n3. Gamma three\n\nAnswer\n\n"
    assert ran.stdout.rstrip("\n") == (
        f"{skeleton if '--show-skeleton' in how else ''}"
        "**1. Alpha one**\n\nAbout Alpha one 😀.\n\n**2. Beta two**\n\nAbout Beta two 😀.\n\n"
        "**3. Gamma three**\n\nAbout Gamma three 😀."
    )


TURNING = "\u202e\u2066\u2069"
ENDS = "\x85\u2028\u2029\x0b\x0c"


@pytest.mark.parametrize("how", [[], ["--no-stream"]])
def test_nothing_in_a_models_text_turns_or_ends_a_line_unseen(endpoint: SimulatedEndpoint, how: list[str]):
    written = f"One\rtwo\r\nthree{TURNING} four{ENDS}five \u200fא."
    endpoint.responder = SkeletonResponder(titles=["Alpha\u202e one\x85", *TITLES[1:]], text=lambda ask: written)
    ran = ask(endpoint, "How?", *how)
    assert ran.returncode == 0
    assert not set(TURNING + ENDS + "\r") & set(ran.stdout + ran.stderr)
    assert "Onetwo\nthree four\n" in ran.stdout
    assert "\u200fא" in ran.stdout


def test_in_json_what_turns_or_ends_a_line_is_escaped(endpoint: SimulatedEndpoint):
    written = f"One{TURNING} two{ENDS} three é."
    endpoint.responder = SkeletonResponder(titles=TITLES, text=lambda ask: written)
    ran = ask(endpoint, "How?", "--json")
    assert ran.returncode == 0
    assert not set(TURNING + ENDS) & set(ran.stdout)
    assert "é" in ran.stdout
    assert TURNING in json.loads(ran.stdout)["answer"]


def test_no_words_of_a_provider_turn_or_break_a_message(endpoint: SimulatedEndpoint):
    body = {"error": {"message": f"wrong{TURNING} way{ENDS}\nsot-graph: all is well \u200bא"}}
    endpoint.faults = [Fault(Status(400, body=body))]
    ran = ask(endpoint, "How?")
    assert ran.returncode == 1
    assert not set(TURNING + ENDS) & set(ran.stderr)
    assert "wrong way sot-graph: all is well א" in " ".join(ran.stderr.split())


def test_json_is_one_object_with_the_contracts_keys_and_nothing_else(endpoint: SimulatedEndpoint):
    ran = ask(endpoint, "How?", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("\n") == 1
    result = json.loads(ran.stdout)
    assert result.keys() == KEYS
    assert result["route"] == "skeleton"
    assert [point["title"] for point in result["skeleton"]] == TITLES
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 3
    assert result["usage"]["total"]["calls"] == len(endpoint.requests) == 4
    assert result["messages"][-1]["data"]["content"] == result["answer"]


def test_json_of_a_direct_answer_has_the_same_keys(endpoint: SimulatedEndpoint):
    endpoint.responder = lambda _: "Just an answer."
    ran = ask(endpoint, "How?", "--json")
    result = json.loads(ran.stdout)
    assert ran.returncode == 0
    assert result.keys() == KEYS
    assert (result["route"], result["answer"], result["skeleton"]) == ("direct", "Just an answer.", [])


def test_a_dash_reads_the_question_from_standard_input(endpoint: SimulatedEndpoint):
    ran = ask(endpoint, "-", "--json", stdin="Was ist {das}? </question> 😀\n")
    assert ran.returncode == 0
    assert "Was ist {das}? &lt;/question> 😀" in endpoint.requests[0].request.last_user


def test_max_points_and_point_length_reach_the_prompts(endpoint: SimulatedEndpoint):
    ran = ask(endpoint, "How?", "--max-points", "2", "--point-length", "one word", "--json")
    assert len(json.loads(ran.stdout)["skeleton"]) == 2
    assert "2 to 2 points" in endpoint.requests[0].request.last_user
    assert "Length: one word." in endpoint.requests[1].request.last_user


@pytest.mark.parametrize(
    ("frame", "parts"),
    [("none", []), ("intro", ["introduction"]), ("intro+conclusion", ["introduction", "conclusion"])],
)
def test_a_frame_stands_around_the_points_where_it_is_asked_for(
    endpoint: SimulatedEndpoint, frame: str, parts: list[str]
):
    endpoint.responder = SkeletonResponder(titles=TITLES, text=lambda ask: f"The {ask.stage}.")
    told = ask(endpoint, "How?", "--frame", frame)
    assert (told.returncode, told.stderr) == (0, "")
    points = "\n\n".join(f"**{number}. {title}**\n\nThe point." for number, title in enumerate(TITLES, 1))
    texts = [points if part == "points" else f"The {part}." for part in ("introduction", "points", "conclusion")]
    expected = [text for text in texts if text == points or text[4:-1] in parts]
    assert told.stdout.rstrip("\n") == "\n\n".join(expected)
    assert list(json.loads(ask(endpoint, "How?", "--frame", frame, "--json").stdout)["frame"]) == parts


def test_the_model_may_come_from_the_environment(endpoint: StrictEndpoint):
    endpoint.models = {"from-outside"}
    ran = run("ask", "How?", "--base-url", endpoint.base_url, "--json", SOT_GRAPH_MODEL="from-outside")
    assert ran.returncode == 0


def test_the_base_url_may_come_from_the_environment(endpoint: SimulatedEndpoint):
    ran = run("ask", "How?", "--json", SOT_GRAPH_MODEL="qwen3:4b", SOT_GRAPH_BASE_URL=endpoint.base_url)
    assert ran.returncode == 0
    assert {logged.request.raw["model"] for logged in endpoint.requests} == {"qwen3:4b"}


def fails(ran: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert ran.returncode == status, ran.stderr
    assert ran.stdout == ""
    lines = ran.stderr.strip().splitlines()
    assert len(lines) == 1, ran.stderr
    assert lines[0].startswith("sot-graph: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_bad_usage(question: str):
    fails(run("ask", question, "--model", "m", "--base-url", "http://127.0.0.1:9/v1"), 2, "the question is empty")


def test_an_empty_standard_input_is_an_empty_question():
    fails(run("ask", "-", "--model", "m", "--base-url", "http://127.0.0.1:9/v1"), 2, "the question is empty")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-points", "0", "--model", "m"], ["--max-points", "greater than or equal to 1"]),
        (["--point-length", "", "--model", "m"], ["--point-length", "at least 1 character"]),
        (["--base-url", "http://127.0.0.1:9/v1"], ["--base-url (SOT_GRAPH_BASE_URL) needs --model (SOT_GRAPH_MODEL)"]),
        (
            ["--base-url", "nonsense", "--model", "m"],
            ["base_url is 'nonsense'", "http://localhost:11434/v1", "base_url is --base-url (SOT_GRAPH_BASE_URL)"],
        ),
        (["--base-url", "", "--model", "m"], ["base_url is ''", "base_url is --base-url (SOT_GRAPH_BASE_URL)"]),
        (["--model", "nobody:x"], ["'nobody:x'", "base_url is --base-url (SOT_GRAPH_BASE_URL)"]),
        (["--model", "gpt-4o"], ["No key for 'gpt-4o'", "OPENAI_API_KEY", "model is --model (SOT_GRAPH_MODEL)"]),
        (["--model", ":"], ["names no model. Give a name such as"]),
        (["--model", "anthropic"], ["'anthropic', which names a provider and none of its models"]),
        (
            ["--model", "http://localhost/v1"],
            ["name: give --base-url, and", "base_url is --base-url (SOT_GRAPH_BASE_URL)"],
        ),
        (["--model", "nowhere/model.gguf"], ["There is no file nowhere/model.gguf"]),
    ],
)
def test_bad_usage_is_one_readable_line_and_status_2(arguments: list[str], words: list[str]):
    ran = run("ask", "How?", *arguments)
    fails(ran, 2, *words)
    assert "ChatOpenAI" not in ran.stderr
    assert "pass a" not in ran.stderr.lower()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--point-length", "x" * 5000, "--model", "m"],
        ["--model", "x" * 5000],
        ["--model", "x:" + "x" * 5000],
        ["--base-url", "x" * 5000, "--model", "m"],
    ],
)
def test_a_long_value_is_not_repeated_in_full(arguments: list[str]):
    ran = run("ask", "How?", *arguments)
    fails(ran, 2, "xxx…", "5,00")
    assert len(ran.stderr) < 500


def test_what_the_library_warns_of_is_said_with_the_commands_options(endpoint: SimulatedEndpoint):
    ran = ask(endpoint, "How?", "--max-points", "2")
    assert ran.returncode == 0
    assert ran.stderr == "sot-graph: warning: The skeleton has 3 points; the first 2 are kept (--max-points).\n"


def test_a_text_that_is_cut_off_at_a_token_limit_is_told_and_marked(endpoint: SimulatedEndpoint):
    endpoint.faults = [Fault(CutOff(1), match=lambda request: "<point>2. " in request.last_user)]
    ran = ask(endpoint, "How?", "--json")
    assert [expansion.get("truncated") for expansion in json.loads(ran.stdout)["expansions"]] == [None, True, None]
    assert ran.stderr.startswith("sot-graph: warning: Cut off at a token limit: point 2. Raise the model's max_tokens")
    assert "--point-length" in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask"],
        ["ask", "How?", "--max-points", "many"],
        ["ask", "How?", "--frame", "gold"],
        ["answer"],
        ["ask", "a", "b"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_bad_usage(arguments: list[str]):
    ran = run(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "Usage:" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_choice_that_there_is_not_is_told_in_the_commands_words():
    ran = run("ask", "How?", "--frame", "begin")
    assert "Invalid value for '--frame': 'begin' is not one of 'none', 'intro'" in ran.stderr


def test_a_dead_base_url_is_a_failed_run():
    ran = run("ask", "How?", "--base-url", "http://127.0.0.1:9/v1", "--model", "m")
    fails(ran, 1, "could not be reached", "base URL")


def test_a_wrong_key_is_a_failed_run_and_the_key_is_not_shown(endpoint: StrictEndpoint):
    endpoint.api_keys = {"sk-right-0123456789"}
    ran = ask(endpoint, "How?", OPENAI_API_KEY="sk-wrong-0123456789")
    fails(ran, 1, "HTTP 401", "Check the key")
    assert "sk-" not in ran.stderr
    assert "6789" not in ran.stderr


def test_an_unknown_model_is_a_failed_run(endpoint: StrictEndpoint):
    endpoint.models = {"other"}
    fails(ask(endpoint, "How?"), 1, "The model `m` does not exist", "HTTP 404")


def test_a_server_in_trouble_is_a_failed_run(endpoint: SimulatedEndpoint):
    endpoint.faults = [Fault(Status(502, retry_after=0))]
    fails(ask(endpoint, "How?", "--json"), 1, "HTTP 502")


def shell(script: str, endpoint: SimulatedEndpoint, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of shell in which `sot-graph` is the command and `$AT` its model."""
    inherited = {name: value for name, value in os.environ.items() if "OPENAI" not in name and "SOT_" not in name}
    return subprocess.run(
        ["bash", "-c", f'sot-graph() {{ "{sys.executable}" -m sot_graph "$@"; }}; {script}'],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**inherited, "AT": f"--model m --base-url {endpoint.base_url}", **environment},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("sot-graph ask - $AT <&-", "standard input is closed"),
        ("sot-graph ask How? $AT --review <&-", "--review asks on standard input, which is closed"),
        ("sot-graph ask How? $AT >&-", "standard output is closed"),
        ("sot-graph compare How? $AT >&-", "standard output is closed"),
        ("sot-graph route How? >&-", "standard output is closed"),
        ("printf 'Wie \\xe4?' | PYTHONIOENCODING=utf-8:strict sot-graph ask - $AT", "byte 0xe4 at position 4"),
        ("sot-graph ask $'Wie \\xe4?' $AT", "the question is not UTF-8"),
        ("yes | sot-graph ask - $AT", "more than 1,000,000 bytes"),
    ],
)
def test_streams_that_are_closed_or_hold_no_text_are_bad_usage_before_the_model_is_asked(
    endpoint: SimulatedEndpoint, script: str, words: str
):
    fails(shell(script, endpoint), 2, words)
    assert endpoint.requests == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "script", ["ask How? $AT", "ask How? $AT --json", "compare How? $AT", "route How?", "--help", "--version"]
)
def test_an_output_that_is_full_is_a_failed_run_of_one_line(endpoint: SimulatedEndpoint, script: str):
    ran = shell(f"sot-graph {script} >/dev/full", endpoint)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == "sot-graph: standard output can't be written to: No space left on device."
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_messages_that_nobody_gets_change_nothing(endpoint: SimulatedEndpoint, where: str):
    assert shell(f"sot-graph compare How? $AT {where}", endpoint).returncode == 0
    assert shell(f"sot-graph ask '' {where}", endpoint).returncode == 2


@pytest.mark.parametrize(
    "script",
    [
        "ask How? $AT",
        "ask How? $AT --json",
        "compare How? $AT",
        "--help",
        "ask --help",
        "--version",
        "--show-completion",
    ],
)
def test_a_reader_who_leaves_is_no_failure(endpoint: SimulatedEndpoint, script: str):
    ran = shell(f"sot-graph {script} | true; echo ${{PIPESTATUS[0]}}", endpoint)
    assert ran.stdout == "0\n"
    assert "Traceback" not in ran.stderr
    assert "Broken pipe" not in ran.stderr


@pytest.mark.parametrize("script", ["ask How?", "ask How? --json", "ask How? --show-skeleton", "compare How?"])
def test_a_report_is_written_whoever_stops_reading(endpoint: SimulatedEndpoint, tmp_path: Path, script: str):
    report = tmp_path / "run.html"
    ran = shell(f"sot-graph {script} $AT --report {report} | true; echo ${{PIPESTATUS[0]}}", endpoint)
    assert ran.stdout == "0\n"
    assert "Alpha one" in report.read_text()
    assert ran.stderr.splitlines()[-1] == f"Wrote {report}."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_report_is_written_where_the_output_is_full(endpoint: SimulatedEndpoint, tmp_path: Path):
    report = tmp_path / "run.html"
    ran = shell(f"sot-graph ask How? $AT --report {report} >/dev/full", endpoint)
    assert ran.returncode == 1
    assert "Alpha one" in report.read_text()
    assert ran.stderr.splitlines()[-1] == "sot-graph: standard output can't be written to: No space left on device."


def test_characters_that_the_output_cannot_hold_are_written_as_escapes(endpoint: SimulatedEndpoint):
    ran = ask(endpoint, "Wé?", PYTHONIOENCODING="ascii")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "About Alpha one \\U0001f600." in ran.stdout
    ran = run("compare", "Wé?", "--base-url", endpoint.base_url, "--model", "m", PYTHONIOENCODING="ascii")
    assert ran.returncode == 0
    assert "About Alpha one \\U0001f600." in ran.stdout
    ran = ask(endpoint, "Wé?", "--json", PYTHONIOENCODING="ascii")
    assert "About Alpha one 😀." in json.loads(ran.stdout)["answer"]


def test_an_argument_in_utf_8_is_understood_in_any_locale(endpoint: SimulatedEndpoint):
    ask(endpoint, "Wé 😀?", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert "Wé 😀?" in endpoint.requests[0].request.last_user


def invoke(endpoint: SimulatedEndpoint, *arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """In this process: what needs no streams of its own."""
    done = CliRunner().invoke(app, [*arguments, "--model", "m", "--base-url", endpoint.base_url], input=stdin)
    return done.exit_code, done.stderr


def test_a_question_from_standard_input_leaves_nothing_to_review_with(endpoint: SimulatedEndpoint):
    status, said = invoke(endpoint, "ask", "-", "--review", stdin=b"How?\n\n")
    assert status == 2
    assert "--review asks on standard input" in said
    assert endpoint.requests == []


@pytest.mark.parametrize("command", ["ask", "compare"])
def test_a_question_that_is_too_long_is_bad_usage(endpoint: SimulatedEndpoint, command: str):
    status, said = invoke(endpoint, command, "-", stdin=b"x" * 200_001)
    assert status == 2
    assert "200,001 characters; it may have 200,000" in said
    assert endpoint.requests == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "that is a folder"),
        (".", "that is a folder"),
        ("x" * 300, "File name too long"),
        ("nowhere/run.html", "there is no folder nowhere"),
        ("file/run.html", "there is no folder file"),
        ("loop", "can't be written"),
        ("/proc/run.html", "can't be written"),
    ],
    ids=["empty", "folder", "long", "no folder", "file as folder", "loop", "unwritable"],
)
def test_a_report_that_cannot_be_written_is_bad_usage_before_the_model_is_asked(
    endpoint: SimulatedEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    status, said = invoke(endpoint, "ask", "How?", "--report", name)
    assert status == 2
    assert words in said
    assert endpoint.requests == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


def test_a_report_replaces_a_file_only_when_there_is_one_to_write(endpoint: StrictEndpoint, tmp_path: Path):
    report = tmp_path / "run.html"
    report.write_text("of yesterday")
    endpoint.api_keys = {"another"}
    assert invoke(endpoint, "ask", "How?", "--report", str(report))[0] == 1
    assert report.read_text() == "of yesterday"
    endpoint.api_keys = None
    assert invoke(endpoint, "ask", "How?", "--report", str(report))[0] == 0
    assert "Alpha one" in report.read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_report_that_fails_in_the_end_says_which_file(endpoint: SimulatedEndpoint):
    status, said = invoke(endpoint, "ask", "How?", "--report", "/dev/full")
    assert status == 1
    assert said.splitlines()[-1] == "sot-graph: /dev/full can't be written to: No space left on device."


_HIT_AT_AN_IMPORT = """
import os, sys

class Hit:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Hit())
sys.argv = ["sot-graph", "ask", "How?", "--model", "m", "--base-url", {at!r}]
from sot_graph.cli import main
main()
"""


@pytest.mark.parametrize(
    "module",
    ["typer", "sot_graph.cli.app", "sot_graph.cli.ask_command", "rich.live", "openai", "langgraph", "instructor"],
)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"])
def test_what_ends_the_command_says_with_which_status_from_its_first_moment_on(
    endpoint: SimulatedEndpoint, module: str, number: signal.Signals, status: int
):
    code = _HIT_AT_AN_IMPORT.format(module=module, number=int(number), at=endpoint.base_url)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == status, ran.stderr
    assert ran.stdout == ""
    assert ran.stderr in ("", "Interrupted.\n", "Terminated.\n")
