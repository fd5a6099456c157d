"""Which model the command and Studio's graphs take."""

import pytest

from sot_graph.default_model import ModelChoice, choose_model
from sot_graph.errors import SotConfigError


def test_a_name_is_taken_whatever_else_there_is(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    assert choose_model("gpt-4o") == ModelChoice(name="gpt-4o")


def test_a_key_alone_means_the_default_of_openai_and_the_user_is_told(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    choice = choose_model()
    assert (choice.name, choice.is_embedded) == ("gpt-4o-mini", False)
    assert "OPENAI_API_KEY is set" in choice.notice


def test_nothing_at_all_means_the_embedded_model_and_the_user_is_told():
    choice = choose_model()
    assert (choice.name, choice.is_embedded) == (None, True)
    assert "facts are often wrong" in choice.notice


def test_a_gguf_file_runs_here_unless_it_is_the_name_of_a_servers_model():
    assert choose_model("some/model.gguf").is_embedded
    assert not choose_model("model.gguf", "http://localhost:8080/v1").is_embedded


def test_a_base_url_without_a_name_is_refused():
    with pytest.raises(SotConfigError, match=r"^SOT_GRAPH_BASE_URL needs SOT_GRAPH_MODEL:"):
        choose_model(base_url="http://localhost:8080/v1")


def test_the_environment_holds_the_same_two_options_and_a_blank_one_is_none(monkeypatch):
    monkeypatch.setenv("SOT_GRAPH_MODEL", "qwen3:4b")
    monkeypatch.setenv("SOT_GRAPH_BASE_URL", "http://localhost:11434/v1")
    assert choose_model() == ModelChoice(name="qwen3:4b", base_url="http://localhost:11434/v1")
    monkeypatch.setenv("SOT_GRAPH_MODEL", "")
    monkeypatch.setenv("SOT_GRAPH_BASE_URL", "")
    assert choose_model().is_embedded


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OPENAI_API_KEY": "test"},
        {"SOT_GRAPH_MODEL": "gpt-4o"},
        {"SOT_GRAPH_MODEL": "nobody:x"},
        {"SOT_GRAPH_MODEL": "http://localhost/v1"},
        {"SOT_GRAPH_MODEL": ":"},
        {"SOT_GRAPH_MODEL": "nowhere/model.gguf"},
        {"SOT_GRAPH_BASE_URL": "http://localhost/v1"},
        {"SOT_GRAPH_MODEL": "m", "SOT_GRAPH_BASE_URL": "nonsense"},
    ],
    ids=str,
)
def test_who_has_only_the_environment_is_told_of_no_options(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said = ""
    try:
        choice = choose_model()
        said = choice.notice
        choice.check()
    except SotConfigError as error:
        said += str(error)
    assert said
    assert "--model" not in said
    assert "--base-url" not in said


@pytest.mark.parametrize("name", ["gpt-4o", "nowhere/model.gguf", "nowhere/MODEL.GGUF"])
def test_a_check_finds_what_is_missing_without_starting_anything(name):
    with pytest.raises(SotConfigError):
        choose_model(name).check()


def test_a_model_on_a_server_of_ones_own_needs_no_key():
    choice = choose_model("qwen3:4b", "http://localhost:11434/v1")
    choice.check()
    with choice.opened() as chat:
        assert chat.model_name == "qwen3:4b"
