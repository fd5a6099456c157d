"""Skeletons and points from a cache: what is good is kept, and nothing else decides what is found."""

import logging
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langgraph.cache.base import BaseCache
from langgraph.cache.memory import InMemoryCache
from langgraph.cache.sqlite import SqliteCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import Field, SecretStr

from sot_graph import SotChatModel, SotOptions, SotPrompts, astream_answer, create_sot_graph
from sot_graph.cache import model_fingerprint
from sot_graph.testing import CutOff, Fault, ScriptedChatModel, Stall, Status, answer_skeleton_of_thought
from tests.support.chat_requests import one_point, point_number

ASK = {"question": "How do plants grow?"}


@pytest.fixture(params=["memory", "sqlite"])
def cache(request, tmp_path):
    if request.param == "memory":
        yield InMemoryCache()
        return
    kept = SqliteCache(path=str(tmp_path / "cache.sqlite"))
    yield kept
    kept._conn.close()


async def test_the_second_run_makes_no_requests_and_costs_nothing(run, endpoint, cache):
    graph = create_sot_graph(endpoint.chat_model(), cache=cache)
    first = await run(graph, ASK)
    assert first["usage"]["total"]["cache_hits"] == 0
    endpoint.reset()
    second = await run(graph, ASK)
    assert endpoint.requests == []
    for key in ("answer", "skeleton", "expansions"):
        assert second[key] == first[key]
    assert second["usage"]["skeleton"] == {**dict.fromkeys(second["usage"]["skeleton"], 0), "cache_hits": 1}
    assert second["usage"]["expansion"] == {**dict.fromkeys(second["usage"]["expansion"], 0), "cache_hits": 8}
    assert second["messages"][-1].usage_metadata["total_tokens"] == 0


def test_another_graph_and_another_process_find_what_was_kept(endpoint, tmp_path):
    """The key holds nothing of one process, such as an object's address."""
    for _ in range(2):
        kept = SqliteCache(path=str(tmp_path / "cache.sqlite"))
        result = create_sot_graph(endpoint.chat_model(), cache=kept).invoke(ASK)
        kept._conn.close()
    assert result["usage"]["total"]["cache_hits"] == 9
    assert len(endpoint.requests) == 9


async def test_a_hit_streams_the_whole_answer(endpoint, cache):
    graph = create_sot_graph(endpoint.chat_model(), cache=cache)
    first = await graph.ainvoke(ASK)
    endpoint.reset()
    assert "".join([text async for text in astream_answer(graph, ASK)]) == first["answer"]
    assert endpoint.requests == []


async def test_only_what_is_good_is_kept(run, endpoint, cache):
    endpoint.faults = [Fault(Status(400), point_number(3)), Fault(Stall(), point_number(5))]
    graph = create_sot_graph(endpoint.chat_model(), cache=cache, options=SotOptions(point_timeout=5.0))
    first = await run(graph, ASK)
    assert [e["index"] for e in first["expansions"] if e["status"] != "ok"] == [3, 5]
    endpoint.faults = []
    endpoint.reset()
    second = await run(graph, ASK)
    assert {e["status"] for e in second["expansions"]} == {"ok"}
    assert len(endpoint.requests) == 2
    assert second["usage"]["total"]["cache_hits"] == 7


async def test_a_prompt_that_is_written_for_lists_has_a_key_of_its_own(run, endpoint, cache):
    first = SotPrompts(skeleton_format="list")
    other = replace(first, skeleton_list=f"{first.skeleton_list} Be brief.")
    await run(create_sot_graph(endpoint.chat_model(), cache=cache, prompts=first), ASK)
    result = await run(create_sot_graph(endpoint.chat_model(), cache=cache, prompts=other), ASK)
    assert result["usage"]["skeleton"]["cache_hits"] == 0


async def test_a_draft_that_may_answer_has_a_key_with_an_answers_settings(run, endpoint, cache):
    for settings in ({"temperature": 0.1}, {"temperature": 0.2}):
        prompts = SotPrompts(direct_settings=settings)
        graph = create_sot_graph(endpoint.chat_model(), cache=cache, router="draft", prompts=prompts)
        result = await run(graph, ASK)
    assert result["usage"]["skeleton"]["cache_hits"] == 0


async def test_a_skeleton_that_a_token_limit_cut_is_not_kept(run, endpoint, cache):
    graph = create_sot_graph(endpoint.chat_model(), cache=cache, options=SotOptions(skeleton_format="list"))
    endpoint.faults = [Fault(CutOff(30), lambda request: not one_point(request))]
    cut = await run(graph, ASK)
    assert cut["usage"]["skeleton"]["calls"] == 1
    endpoint.faults = []
    again = await run(graph, ASK)
    assert again["usage"]["skeleton"]["cache_hits"] == 0
    assert len(again["skeleton"]) > len(cut["skeleton"]) > 0


async def test_a_direct_answer_for_want_of_a_skeleton_is_not_kept_as_one(run, endpoint, cache):
    endpoint.responder = lambda request: "Just prose."
    graph = create_sot_graph(endpoint.chat_model(), cache=cache)
    await run(graph, ASK)
    before = len(endpoint.requests)
    assert (await run(graph, ASK))["usage"]["total"]["cache_hits"] == 0
    assert len(endpoint.requests) == 2 * before


HISTORY = [HumanMessage("Hello?"), AIMessage("Hello!"), HumanMessage(ASK["question"])]
OTHERS = {
    "question": ({}, {"question": "How do plants die?"}),
    "history": ({}, {"messages": HISTORY}),
    "max_points": ({"options": SotOptions(max_points=9)}, ASK),
    "title_length": ({"options": SotOptions(title_length="one word")}, ASK),
    "skeleton_format": ({"options": SotOptions(skeleton_format="list")}, ASK),
    "structured_mode": ({"options": SotOptions(structured_mode="tools")}, ASK),
    "system prompt": ({"prompts": SotPrompts(system="Be brief.")}, ASK),
    "title words": ({"prompts": SotPrompts(max_title_words=1)}, ASK),
    "similar titles": ({"prompts": SotPrompts(drop_similar_titles=True)}, ASK),
    "model": ({"model": {"model": "other"}}, ASK),
    "temperature": ({"model": {"temperature": 0.5}}, ASK),
    "base URL": ({"model": {"base_url": "http://127.0.0.1:9/v1"}}, ASK),
}
POINTS_ALONE = {
    "point_length": ({"options": SotOptions(point_length="a page")}, ASK),
    "expansion prompt": ({"prompts": SotPrompts(expansion="{title}! {point_length}")}, ASK),
    "expansion settings": ({"prompts": SotPrompts(expansion_settings={"max_tokens": 50})}, ASK),
    "trimming": ({"prompts": SotPrompts(trim_to_sentence=True)}, ASK),
}


def graph_with(endpoint, cache, changes):
    settings = dict(changes)
    model = endpoint.chat_model(**settings.pop("model", {}))
    return create_sot_graph(model, cache=cache, **settings)


@pytest.mark.parametrize(("changes", "given"), OTHERS.values(), ids=OTHERS)
async def test_nothing_is_found_where_anything_differs(endpoint, changes, given):
    cache = InMemoryCache()
    await graph_with(endpoint, cache, {}).ainvoke(ASK)
    graph = graph_with(endpoint, cache, changes)
    endpoint.reset()
    if "base_url" in changes.get("model", {}):
        with pytest.raises(Exception, match="could not be reached"):
            await graph.ainvoke(given, context={"max_retries": 0})
        return
    result = await graph.ainvoke(given)
    assert result["usage"]["skeleton"]["cache_hits"] == 0
    assert endpoint.requests


@pytest.mark.parametrize(("changes", "given"), POINTS_ALONE.values(), ids=POINTS_ALONE)
async def test_what_changes_the_points_alone_keeps_the_skeleton(endpoint, changes, given):
    cache = InMemoryCache()
    await graph_with(endpoint, cache, {}).ainvoke(ASK)
    result = await graph_with(endpoint, cache, changes).ainvoke(given)
    assert result["usage"]["skeleton"]["cache_hits"] == 1
    assert result["usage"]["expansion"] == {**result["usage"]["expansion"], "cache_hits": 0, "calls": 8}


async def test_an_edited_skeleton_finds_no_points_of_the_drafted_one(endpoint, cache):
    options = SotOptions(review_skeleton=True)
    graph = create_sot_graph(endpoint.chat_model(), cache=cache, options=options, checkpointer=InMemorySaver())
    for thread, titles in enumerate((["Seed", "Soil"], ["Seed", "Sun"])):
        config = {"configurable": {"thread_id": str(thread)}}
        await graph.ainvoke(ASK, config)
        result = await graph.ainvoke(Command(resume=titles), config)
        assert [e["title"] for e in result["expansions"]] == titles
        assert result["usage"]["expansion"]["cache_hits"] == 0


class BrokenCache(BaseCache):
    """A cache whose database is gone."""

    def get(self, keys):
        raise ConnectionError("the cache is gone")

    def set(self, pairs):
        raise ConnectionError("the cache is gone")

    def clear(self, namespaces=None):
        raise ConnectionError("the cache is gone")

    async def aget(self, keys):
        raise ConnectionError("the cache is gone")

    async def aset(self, pairs):
        raise ConnectionError("the cache is gone")

    async def aclear(self, namespaces=None):
        raise ConnectionError("the cache is gone")


async def test_a_broken_cache_is_a_warning_and_no_more(run, endpoint, caplog):
    caplog.set_level(logging.WARNING, "sot_graph")
    result = await run(create_sot_graph(endpoint.chat_model(), cache=BrokenCache()), ASK)
    assert {e["status"] for e in result["expansions"]} == {"ok"}
    assert "the cache is gone" in caplog.text


async def test_leaving_a_stream_early_keeps_nothing_unfinished(endpoint):
    cache = InMemoryCache()
    endpoint.faults = [Fault(Stall(after_tokens=3), point_number(2))]
    graph = create_sot_graph(endpoint.chat_model(), cache=cache)
    async with aclosing(astream_answer(graph, ASK)) as chunks:
        async for text in chunks:
            if "**2. " in text:
                break
    endpoint.faults = []
    result = await graph.ainvoke(ASK)
    assert {e["status"] for e in result["expansions"]} == {"ok"}
    assert result["usage"]["expansion"]["calls"] >= 1


class OddCache(InMemoryCache):
    """Gives the same value for every key."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    async def aget(self, keys):
        return dict.fromkeys(keys, self.value)


@pytest.mark.parametrize(
    "value",
    [
        5,
        [],
        {"a": 1},
        {"points": 5, "text": "", "skeleton_format": "list"},
        {"points": [], "text": "", "skeleton_format": "list"},
        {"points": [{"title": "A"}], "text": "", "skeleton_format": "list"},
        {"points": [{"index": 1, "title": 5, "depends_on": []}], "text": "", "skeleton_format": "list"},
    ],
)
async def test_what_is_no_result_of_ours_counts_as_nothing(run, endpoint, value):
    result = await run(create_sot_graph(endpoint.chat_model(), cache=OddCache(value)), ASK)
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 8
    assert result["usage"]["total"]["cache_hits"] == 0


class OwnModel(BaseChatModel):
    """A class that LangChain can't serialise, with a setting, a client and a secret that its `repr` doesn't show."""

    words: str = Field(repr=False)
    key: SecretStr = SecretStr("a")
    client: object = Field(default_factory=object, exclude=True, repr=False)
    _llm_type = "own"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        text = answer_skeleton_of_thought(titles=["Seed", "Soil", "Sun"], text=self.words)(messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


def saying(words):
    return ScriptedChatModel(answer_skeleton_of_thought(titles=["Seed", "Soil", "Sun"], text=words))


def function_saying(words):
    model = saying(words)

    def ask(messages):
        return model.invoke(messages)

    return RunnableLambda(ask)


@pytest.mark.parametrize(
    "make",
    [
        function_saying,
        lambda words: SotChatModel(graph=create_sot_graph(saying(words))),
        lambda words: OwnModel(words=words),
        lambda words: OwnModel(words=words).with_config(tags=["own"]),
    ],
    ids=["closures", "graphs", "hidden settings", "hidden settings of a wrapped model"],
)
async def test_models_that_look_alike_never_get_each_others_texts(make):
    cache = InMemoryCache()
    models = [make(words) for words in ("It is red.", "It is blue.")]
    fingerprints = [model_fingerprint(model) for model in models]
    assert len(set(fingerprints)) == 2
    assert [model_fingerprint(model) for model in models] == fingerprints
    given = {**ASK, "given_skeleton": ["Seed", "Soil"]}
    answers = [(await create_sot_graph(model, cache=cache).ainvoke(given))["answer"] for model in models]
    assert ["red" in answer for answer in answers] == [True, False]
    again = await create_sot_graph(models[1], cache=cache).ainvoke(given)
    assert again["usage"]["total"]["calls"] == 0


def test_a_models_client_and_its_key_make_no_difference():
    one, other = (OwnModel(words="It is red.", key=SecretStr(key)) for key in "ab")
    assert model_fingerprint(one.bind(stop=["."])) == model_fingerprint(other.bind(stop=["."]))
    assert model_fingerprint(one) != model_fingerprint(one.bind(stop=["."]))


def test_no_two_objects_have_one_mark_though_one_may_get_the_others_address():
    assert len({model_fingerprint(RunnableLambda(lambda given, n=n: n)) for n in range(20)}) == 20


async def test_a_model_that_a_runs_config_changes_has_texts_by_that_config():
    chosen = ConfigurableField(id="words")
    model = OwnModel(words="It is red.").configurable_fields(words=chosen)
    graph = create_sot_graph(model, cache=InMemoryCache())
    given = {**ASK, "given_skeleton": ["Seed", "Soil"]}
    answers = []
    for words in ("It is red.", "It is blue."):
        answers.append((await graph.ainvoke(given, {"configurable": {"words": words}}))["answer"])
    assert ["blue" in answer for answer in answers] == [False, True]
    again = await graph.ainvoke(given, {"configurable": {"words": "It is blue.", "user": "another"}})
    assert again["usage"]["total"]["calls"] == 0


async def test_a_model_of_conflicting_settings_is_asked_each_time():
    chosen = ConfigurableField(id="words")
    one, other = (OwnModel(words=words).configurable_fields(words=chosen) for words in ("It is red.", "It is blue."))
    graph = create_sot_graph(one.with_fallbacks([other]), cache=InMemoryCache())
    for _ in range(2):
        assert (await graph.ainvoke({**ASK, "given_skeleton": ["Seed", "Soil"]}))["usage"]["total"]["calls"] == 2


@dataclass
class HalfMade:
    client: object = field(init=False)

    def __repr__(self):
        raise RuntimeError("not yet")


def test_a_model_with_a_field_that_cant_be_shown_still_makes_a_graph():
    class Holding(OwnModel):
        held: Any = None

    graph = create_sot_graph(Holding(words="It is red.", held=HalfMade()), cache=InMemoryCache())
    assert "red" in graph.invoke(ASK)["answer"]
