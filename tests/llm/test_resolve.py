"""From what a caller names to a chat model."""

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from sot_graph import create_sot_graph
from sot_graph.errors import SotConfigError
from sot_graph.llm.resolve import resolve_model
from sot_graph.testing import ScriptedChatModel


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")


@pytest.fixture
def no_langchain(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where `langchain` is not installed; it is here."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setitem(sys.modules, "langchain", None)


def test_a_model_object_is_taken_as_it_is():
    model = ScriptedChatModel(lambda _: "x")
    for given in (model, model.bind(stop=["x"]), model.with_config(tags=["t"]), model.with_fallbacks([model])):
        assert resolve_model(given) is given
    for chain in (RunnableLambda(lambda x: x), ChatPromptTemplate.from_messages(["Be brief."]) | model):
        assert resolve_model(chain) is chain


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ChatPromptTemplate.from_messages(["Be brief."]),
            "model is a ChatPromptTemplate, not a chat model. .*prompts=",
        ),
        (create_sot_graph(ScriptedChatModel(lambda _: "x")), "not a chat model. .*expander=graph.*SotChatModel"),
    ],
    ids=["prompt", "graph"],
)
def test_a_runnable_that_is_no_model_is_refused_with_what_to_do_instead(given: Any, message: str):
    with pytest.raises(SotConfigError, match=message):
        resolve_model(given)


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-4o-mini", "gpt-4o-mini"),
        (" gpt-4o-mini ", "gpt-4o-mini"),
        ("openai:gpt-4o", "gpt-4o"),
        ("openai:ft:x", "ft:x"),
    ],
)
def test_a_name_makes_a_chat_openai(name: str, model: str):
    made = resolve_model(name)
    assert isinstance(made, ChatOpenAI)
    assert made.model_name == model
    assert made.stream_usage


@pytest.mark.parametrize("name", ["qwen3:4b", "openai:gpt-4o", "hf.co/x/y:Q4", "plain"])
def test_beside_a_base_url_a_name_is_taken_as_it_stands_and_no_key_is_needed(name: str):
    made = resolve_model(name, base_url="http://localhost:11434/v1")
    assert isinstance(made, ChatOpenAI)
    assert made.model_name == name
    assert made.openai_api_base == "http://localhost:11434/v1"
    assert made.use_responses_api is False


def test_a_given_key_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "from-outside")
    made = resolve_model("gpt-4o", api_key="given")
    assert isinstance(made, ChatOpenAI)
    assert made.root_client.api_key == "given"


def test_a_missing_key_says_which_variable_to_set_and_how_another_providers_model_is_named():
    with pytest.raises(SotConfigError, match=r"No key for 'claude-x'.* set OPENAI_API_KEY.* anthropic:its-name"):
        resolve_model("claude-x")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("anthropic", "'anthropic', which names a provider and none of its models: write both"),
        ("OpenAI", "names a provider"),
        ("google_genai", "names a provider"),
        ("http://localhost:11434/v1", r"an address and not a model's name: pass ChatOpenAI\(model=..., base_url="),
        ("models/Small.GGUF", r"a file.*local_model\(path\)"),
    ],
)
@pytest.mark.parametrize("with_key", [True, False], ids=["a key", "no key"])
def test_what_is_written_in_a_models_place_is_told_for_what_it_is(
    monkeypatch: pytest.MonkeyPatch, name: str, message: str, with_key: bool
):
    if with_key:
        monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    with pytest.raises(SotConfigError, match=message) as refused:
        resolve_model(name)
    assert "No key" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "  ", ":", "openai:", ":gpt-4o", "gpt\n4o", "no\x1bbody:x"])
@pytest.mark.parametrize("base_url", [None, "http://localhost/v1"])
def test_a_name_of_nothing_is_refused(name: str, base_url: str | None):
    with pytest.raises(SotConfigError, match="names no model"):
        resolve_model(name, base_url=base_url)


@pytest.mark.parametrize("model", [None, 5, {"model": "gpt-4o"}, ["gpt-4o"], ChatOpenAI, object()])
def test_what_is_no_chat_model_is_refused_with_what_to_pass(model: Any):
    with pytest.raises(SotConfigError, match=r"not a chat model. Pass a LangChain chat model"):
        resolve_model(model)


def test_the_message_says_which_argument_is_wrong():
    with pytest.raises(SotConfigError, match=r"^skeleton_model is a int"):
        resolve_model(5, argument="skeleton_model")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "  ",
        "localhost:11434/v1",
        "ftp://localhost/v1",
        "http://",
        "http:///v1",
        "http://localhost:port/v1",
        "http://localhost:99999/v1",
        "http://[::1/v1",
        "http://local host/v1",
        "nonsense",
    ],
)
def test_a_bad_base_url_is_refused_with_a_good_one(url: str):
    with pytest.raises(SotConfigError, match=r"^base_url is .* such as http://localhost:11434/v1"):
        resolve_model("m", base_url=url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/v1", "https://host/v1", "http://[::1]:80/v1", "HTTP://host"])
def test_a_good_base_url_is_taken(url: str):
    assert isinstance(resolve_model("m", base_url=url), ChatOpenAI)


@pytest.mark.usefixtures("no_langchain")
def test_another_provider_without_langchain_says_what_to_install():
    with pytest.raises(SotConfigError, match=r"pip install langchain langchain-google-genai\), or pass a chat model"):
        resolve_model("google_genai:gemini-2.5-flash")


@pytest.mark.usefixtures("no_langchain")
def test_a_name_with_a_colon_may_be_a_local_servers_and_the_message_says_so():
    with pytest.raises(SotConfigError, match="If 'qwen3:4b' is the name of a model on a server of your own"):
        resolve_model("qwen3:4b")


@pytest.fixture
def fake_langchain(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    def install(init_chat_model: Callable[..., Any]) -> None:
        package, module = ModuleType("langchain"), ModuleType("langchain.chat_models")
        module.init_chat_model = init_chat_model  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "langchain", package)
        monkeypatch.setitem(sys.modules, "langchain.chat_models", module)
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())

    return install


def test_another_provider_goes_through_init_chat_model(fake_langchain: Callable[..., None]):
    asked: list[Any] = []
    model = ScriptedChatModel(lambda _: "x")
    fake_langchain(lambda name, **kwargs: asked.append((name, kwargs)) or model)
    assert resolve_model("anthropic:claude", api_key="k") is model
    assert asked == [("claude", {"model_provider": "anthropic", "api_key": "k"})]


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (ImportError("Please install langchain-anthropic"), "Please install langchain-anthropic"),
        (
            ValueError("Unsupported provider='nobody'.\n\nSupported model providers are: a, b"),
            "LangChain's init_chat_model knows no provider 'nobody'. If 'nobody:x' is the name",
        ),
        (
            ValueError("1 validation error\nkey\n  missing"),
            "no model could be made of it: 1 validation error key missing",
        ),
        (RuntimeError("Missing credentials sk-0123456789"), "no model could be made of it: Missing credentials ***"),
    ],
)
def test_init_chat_models_errors_come_out_as_config_errors_of_one_line(
    fake_langchain: Callable[..., None], raised: Exception, message: str
):
    def init_chat_model(_name: str, **_kwargs: Any) -> Any:
        raise raised

    fake_langchain(init_chat_model)
    with pytest.raises(SotConfigError) as refused:
        resolve_model("nobody:x")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(importlib.util.find_spec("langchain") is None, reason="of the real LangChain")
@pytest.mark.parametrize(
    ("name", "message"),
    [("nobody:x", "knows no provider 'nobody'"), ("azure_openai:gpt-4o", "no model could be made of it")],
)
def test_the_real_init_chat_model_is_understood(name: str, message: str):
    with pytest.raises(SotConfigError, match=message) as refused:
        resolve_model(name)
    assert "\n" not in str(refused.value)
