"""The endpoint as a command, and what the package is as a whole."""

import json
import signal
import subprocess
import sys

import pytest

import sot_graph.testing
from sot_graph.testing.__main__ import main


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_process_ends_cleanly_when_it_is_told_to():
    command = [sys.executable, "-m", "sot_graph.testing", "--tps", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["base_url"].startswith("http://127.0.0.1:")
        process.terminate()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_the_package_lists_what_it_has_and_imports_no_provider():
    assert sot_graph.testing.__all__ == sorted(sot_graph.testing.__all__) == dir(sot_graph.testing)
    for name in sot_graph.testing.__all__:
        assert getattr(getattr(sot_graph.testing, name), "__name__", name) in {name, "Literal"}
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = sot_graph.testing.Nothing
    script = (
        "import sys, sot_graph.testing as t; [getattr(t, name) for name in t.__all__]; "
        "assert 'langchain_openai' not in sys.modules and 'openai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--points", "0"], "at least one point"),
        (["--tps", "-1"], "tokens_per_second must be above 0"),
        (["--words", "x"], "'x'"),
        (["--port", "70000"], "port must be 0-65535"),
    ],
)
def test_wrong_arguments_of_the_process_are_bad_usage(monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(sys, "argv", ["sot_graph.testing", *arguments])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
