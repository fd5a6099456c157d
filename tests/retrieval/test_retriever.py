"""A retriever on the graph: asked for the question and for each point, in time, and never the end of a point."""

import asyncio
import threading
from contextlib import aclosing, suppress

import pytest
from langchain_core.documents import Document
from langchain_core.messages import convert_to_openai_messages
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.base import BaseTracer

from sot_graph import SotConfigError, SotOptions, astream_answer, create_sot_graph
from sot_graph.testing import ChatRequest, SkeletonResponder
from tests.retrieval.conftest import TITLES, point_calls, shown_numbers
from tests.support.virtual_time import PacedModel, run_in_virtual_time

ASK = {"question": "How do I start a garden?"}
QUERIES = [ASK["question"], *(f"{ASK['question']} {title}" for title in TITLES)]


class Notes(BaseRetriever):
    """A synchronous one: it waits until all points ask at the same time."""

    barrier: object = None
    asked: list = []  # noqa: RUF012

    def _get_relevant_documents(self, query, *, run_manager):
        self.asked.append(query)
        title = next((title for title in TITLES if query.endswith(title)), None)
        if title and self.barrier is not None:
            self.barrier.wait(timeout=20)
        return [Document(f"All about {title or 'gardens'}.", metadata={"source": f"{title or 'garden'}.md"})]


def as_callable(query):
    return Notes().invoke(query)


async def as_async_callable(query):
    return await Notes().ainvoke(query)


@pytest.mark.parametrize(
    "make", [Notes, lambda: as_callable, lambda: as_async_callable, lambda: RunnableLambda(as_async_callable)]
)
@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
def test_any_retriever_grounds_the_skeleton_and_each_point(make_graph, make, dispatch):
    cite = lambda numbers: f"[{numbers[-1]}, {numbers[0]}]"  # noqa: E731
    graph, model = make_graph(cite, retriever=make(), options=SotOptions(dispatch=dispatch))
    result = graph.invoke(ASK)
    assert shown_numbers(model.calls[0].messages) == [1]
    for title in TITLES:
        messages = point_calls(model)[title]
        assert shown_numbers(messages) == [1, 2]
        assert f"All about {title}." in str(messages[-1].text)
    assert result["answer"].endswith(
        "About Water [4, 2].\n\n**Sources**\n\n1. Sunlight.md\n2. garden.md\n3. Soil.md\n4. Water.md"
    )


async def test_points_are_retrieved_for_at_the_same_time_even_by_a_retriever_that_blocks(make_graph):
    notes = Notes(barrier=threading.Barrier(len(TITLES)))
    graph, _ = make_graph(retriever=notes)
    await graph.ainvoke(ASK)
    assert sorted(notes.asked) == sorted(QUERIES)


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
async def test_a_retriever_that_fails_or_finds_nothing_costs_no_point(make_graph, dispatch, caplog):
    def retriever(query):
        if query.endswith("Soil"):
            raise OSError("the index is gone, key sk-abcdefghijklmnopqrstuvwxyz123456")
        return [] if query.endswith("Water") else ["A note."]

    graph, _ = make_graph(retriever=retriever, options=SotOptions(dispatch=dispatch))
    result = await graph.ainvoke(ASK)
    sun, soil, water = result["expansions"]
    assert [each["status"] for each in (sun, soil, water)] == ["ok"] * 3
    assert "detail" not in sun
    assert soil["detail"].startswith("the retriever failed (OSError: the index is gone")
    assert "sk-abc" not in soil["detail"] + caplog.text
    assert water["detail"] == "the retriever found nothing for it"
    assert "About Water [1]." in result["answer"]  # of what was found for the question


@pytest.mark.parametrize("router", [None, lambda question, history: "direct"], ids=["points", "direct"])
@pytest.mark.parametrize("found", [(), ("Water",)], ids=["nothing", "for one point"])
async def test_an_answer_says_that_nothing_was_found_where_that_is_so_of_all_of_it(make_graph, router, found):
    graph, _ = make_graph(retriever=lambda query: ["A note."] if query.endswith(found) else [], router=router)
    result = await graph.ainvoke(ASK)
    says_so = "detail" in result["messages"][-1].response_metadata
    assert says_so == (router is not None or not found)
    without = [point["title"] for point in result["expansions"] if "detail" not in point]
    assert without == ([*found] if router is None else [])


@pytest.mark.parametrize("router", [None, lambda question, history: "direct"], ids=["points", "direct"])
async def test_where_only_the_questions_search_fails_each_text_says_so_and_the_message(make_graph, router):
    def retriever(query):
        if query == ASK["question"]:
            raise OSError("the index is gone")
        return ["A note."]

    graph, _ = make_graph(retriever=retriever, router=router, options=SotOptions(frame="opening"))
    result = await graph.ainvoke(ASK)
    why = "the retriever failed (OSError: the index is gone)"
    assert result["messages"][-1].response_metadata["detail"] == why
    assert {each["detail"] for each in (*result["expansions"], *result["frame"].values())} <= {why}
    assert len(result["expansions"]) == (3 if router is None else 0)


async def test_what_is_found_for_the_point_need_not_be_found_for_the_question(make_graph):
    graph, _ = make_graph(retriever=lambda query: [] if query == ASK["question"] else ["A note."])
    result = await graph.ainvoke(ASK)
    assert not any("detail" in each for each in result["expansions"])


async def test_a_store_may_give_each_document_with_its_score(make_graph):
    graph, _ = make_graph(retriever=lambda query: [(Document("Loose soil.", metadata={"source": "a.md"}), 0.7)])
    result = await graph.ainvoke(ASK)
    assert [source["title"] for source in result["sources"]] == ["a.md"]


async def test_a_retriever_that_never_answers_leaves_half_of_the_time_for_the_answer(make_graph):
    async def retriever(query):
        await asyncio.Event().wait()

    graph, _ = make_graph(lambda numbers: "", retriever=retriever, options=SotOptions(deadline=4.0))
    result = await graph.ainvoke(ASK)
    assert {each["status"] for each in result["expansions"]} == {"ok"}
    assert all(each["detail"].endswith("s (half of the time until the deadline)") for each in result["expansions"])


async def test_one_that_never_answers_is_given_up(make_graph):
    cancelled = []

    async def retriever(query):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(query)
            raise

    graph, _ = make_graph(lambda numbers: "", retriever=retriever, options=SotOptions(retrieval_timeout=0.05))
    result = await graph.ainvoke(ASK)
    assert sorted(cancelled) == sorted(QUERIES)
    assert {each["detail"] for each in result["expansions"]} == {
        "the retriever had found nothing after 0.05 s (retrieval_timeout)"
    }


async def test_retrieval_is_within_the_points_time(make_graph):
    async def retriever(query):
        if query != ASK["question"]:
            await asyncio.Event().wait()
        return []

    options = SotOptions(retrieval_timeout=None, point_timeout=0.05)
    graph, _ = make_graph(retriever=retriever, options=options)
    result = await graph.ainvoke(ASK)
    assert {each["status"] for each in result["expansions"]} == {"timed_out"}


@pytest.mark.parametrize("found", ["a text", 7, [7], None], ids=str)
async def test_what_is_no_list_of_documents_is_a_failed_retrieval(make_graph, found):
    result = await make_graph(lambda numbers: "", retriever=lambda query: found)[0].ainvoke(ASK)
    assert all(each["detail"].startswith("the retriever failed (SotConfigError: ") for each in result["expansions"])


def test_documents_and_a_retriever_go_together(make_graph):
    graph, model = make_graph(lambda numbers: "[1, 2]", retriever=lambda query: ["Given.", f"Found for {query}."])
    result = graph.invoke({**ASK, "documents": ["Given."]})
    assert shown_numbers(model.calls[0].messages) == [1, 2]  # what was given isn't found again
    assert shown_numbers(point_calls(model)["Soil"]) == [1, 2, 3]
    assert [source["title"] for source in result["sources"]] == ["Given.", f"Found for {ASK['question']}."]


def guide_to(topic, words):
    return Document(" ".join(f"{topic}{number}" for number in range(words)), metadata={"source": f"{topic}.md"})


@pytest.mark.parametrize(
    ("for_question", "for_point"),
    [({"soil": 300, "water": 300}, {"soil": 300}), ({"soil": 300}, {"soil": 300, "water": 300})],
    ids=["cut for all prompts", "cut for a point"],
)
def test_what_is_cut_in_one_place_and_whole_in_the_other_is_shown_once(make_graph, for_question, for_point):
    def retriever(query):
        wanted = for_question if query == ASK["question"] else for_point
        return [guide_to(*each) for each in wanted.items()]

    graph, model = make_graph(retriever=retriever, options=SotOptions(max_document_chars=6000))
    graph.invoke(ASK)
    prompt = " ".join(str(message.text) for message in point_calls(model)["Soil"])
    assert prompt.count("soil1 ") == 1
    assert "soil299" in prompt


@pytest.mark.parametrize("wrong", [7, "index", lambda: [], Notes], ids=["a number", "a text", "no query", "a class"])
def test_what_can_not_be_asked_is_refused_when_the_graph_is_made(make_graph, wrong):
    with pytest.raises(SotConfigError, match="retriever"):
        make_graph(retriever=wrong)
    with pytest.raises(SotConfigError, match="ranker"):
        make_graph(ranker=wrong)


class Tracer(BaseTracer):
    """Keeps the run's tree."""

    def _persist_run(self, run):
        self.root = run


async def test_a_trace_shows_each_retrieval_by_its_point(make_graph):
    tracer = Tracer()
    await make_graph(retriever=Notes())[0].ainvoke(ASK, {"callbacks": [tracer]})
    nodes = {node.name: node.child_runs for node in tracer.root.child_runs}
    drafting = nodes["draft_skeleton"]
    retrievals = [f"retrieve {index}: {title}" for index, title in enumerate(TITLES, start=1)]
    assert [run.name for run in drafting] == ["retrieve for the question", "write skeleton", *retrievals]
    assert {run.run_type for run in drafting if run.name in retrievals} == {"retriever"}
    for index, title in enumerate(TITLES, start=1):
        taken_over, call = nodes[f"expand {index}: {title}"]
        assert [taken_over.name, call.name] == [retrievals[index - 1], f"write {index}: {title}"]
        assert "sot:expansion" in taken_over.tags
        assert f"All about {title}." in str(taken_over.outputs)


def paced(tokens):
    """A model of 0.4 s to the first token and 60 tokens/s, whose points have so many tokens, by a virtual clock."""
    responder = SkeletonResponder(points=len(tokens), tokens_per_point=lambda number: tokens[number - 1])
    return PacedModel(lambda messages: responder(ChatRequest({"messages": convert_to_openai_messages(messages)})).text)


async def seconds_of(graph):
    """When the first 40 characters could be read, and the whole answer."""
    now = asyncio.get_running_loop().time
    begun, read, first = now(), "", None
    async for text in astream_answer(graph, ASK):
        read += text
        first = now() - begun if first is None and len(read) >= 40 else first
    return first, now() - begun


@pytest.mark.parametrize(
    ("tokens", "later"), [([60] * 4 + [30] * 4, 0.31), ([60] * 8, 0.61)], ids=["short last points", "even points"]
)
@pytest.mark.parametrize("router", [None, "draft"])
def test_points_are_retrieved_for_while_the_skeleton_is_being_written(tokens, later, router):
    async def retriever(query):
        await asyncio.sleep(0.3)
        return [f"Found for {query}."]

    async def read(retriever):
        return await seconds_of(create_sot_graph(paced(tokens), router=router, retriever=retriever))

    first, whole = run_in_virtual_time(read(None))
    first_later, whole_later = run_in_virtual_time(read(retriever))
    assert first_later - first <= 0.31  # the question's retrieval alone
    assert whole_later - whole <= later  # the last title is there when the skeleton ends


class Endless:
    """A retriever that answers for the question alone, and knows what it was asked and what of that was ended."""

    def __init__(self):
        self.asked, self.ended = [], []

    async def __call__(self, query):
        if query == ASK["question"]:
            return []
        self.asked.append(query)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(query)


@pytest.mark.parametrize("leaves_after", [0.7, 3.0], ids=["in mid-skeleton", "in mid-points"])
def test_a_caller_who_leaves_leaves_no_retrieval_behind(leaves_after):
    retriever = Endless()

    async def run():
        graph = create_sot_graph(paced([60] * 8), retriever=retriever, options=SotOptions(retrieval_timeout=None))
        with suppress(TimeoutError):
            async with asyncio.timeout(leaves_after), aclosing(astream_answer(graph, ASK)) as pieces:
                async for _ in pieces:
                    pass
        assert sorted(retriever.ended) == sorted(retriever.asked)

    run_in_virtual_time(run())
    assert 0 < len(retriever.asked) < 8 if leaves_after == 0.7 else len(retriever.asked) == 8


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
def test_what_was_begun_for_titles_that_are_no_points_is_ended(dispatch):
    retriever = Endless()
    replies = iter(["1. Sunlight\n2. Soil\n\nOf these, do the first today, and leave the second for spring.", "Dig."])
    model = PacedModel(lambda messages: next(replies))

    async def run():
        graph = create_sot_graph(
            model, router="draft", retriever=retriever, options=SotOptions(dispatch=dispatch, retrieval_timeout=None)
        )
        result = await graph.ainvoke(ASK)
        await asyncio.sleep(0)
        assert result["route"] == "direct"
        assert sorted(retriever.ended) == sorted(retriever.asked)

    run_in_virtual_time(run())
    assert len(retriever.asked) == (2 if dispatch == "send" else 0)
