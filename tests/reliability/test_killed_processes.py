"""A process is killed (`kill -9`) while points are being written; another one goes on with its thread."""

import asyncio
import subprocess
import sys
import time
import uuid
from contextlib import asynccontextmanager, contextmanager

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.errors import EmptyInputError
from langgraph.graph import START, MessagesState, StateGraph

from sot_graph import SotOptions, create_sot_graph, retry_failed_points
from sot_graph.testing import Fault, SimulatedEndpoint, Stall, Status
from tests.support.chat_requests import number_of, one_point

QUESTION = "How do plants grow?"
HELD = (2, 5, 6, 8)
FINISHED = 4

# What is killed: it gets the kind of saver, where it keeps, the endpoint, the thread, the durability, and "nested".
CHILD = """
import asyncio, sys
from tests_reliability_savers import asked, graph_of, saver_of, asaver_of

kind, where, base_url, thread, durability, nested = sys.argv[1:]
config = {"configurable": {"thread_id": thread}}

async def main():
    async with asaver_of(kind, where) as saver:
        await graph_of(saver, base_url, nested).ainvoke(asked(nested), config, durability=durability)

if kind.startswith("async"):
    asyncio.run(main())
else:
    with saver_of(kind, where) as saver:
        graph_of(saver, base_url, nested).invoke(asked(nested), config, durability=durability)
"""


def is_held(request):
    return one_point(request) and number_of(request) in HELD


@contextmanager
def saver_of(kind, where):
    if kind.endswith("sqlite"):
        with SqliteSaver.from_conn_string(where) as saver:
            yield saver
        return
    from langgraph.checkpoint.postgres import PostgresSaver

    with PostgresSaver.from_conn_string(where) as saver:
        saver.setup()
        yield saver


@asynccontextmanager
async def asaver_of(kind, where):
    if kind.endswith("sqlite"):
        async with AsyncSqliteSaver.from_conn_string(where) as saver:
            yield saver
        return
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    async with AsyncPostgresSaver.from_conn_string(where) as saver:
        await saver.setup()
        yield saver


def graph_of(saver, base_url, nested):
    model = SimulatedEndpoint.chat_model(Anywhere(base_url))
    if nested != "nested":
        options = SotOptions(dispatch="pipelined" if nested == "pipelined" else "send")
        return create_sot_graph(model, options=options, checkpointer=saver)
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(model))
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=saver)


class Anywhere:
    """As much of an endpoint as `chat_model` looks at."""

    models = api_keys = None

    def __init__(self, base_url):
        self.base_url = base_url


def asked(nested):
    return {"messages": [HumanMessage(QUESTION, id="1")]} if nested == "nested" else {"question": QUESTION}


@pytest.fixture
def where(request, tmp_path):
    """Where a kind of saver keeps its threads; PostgreSQL is started only for those that need it."""

    def of(kind):
        return str(tmp_path / "threads.sqlite") if kind.endswith("sqlite") else request.getfixturevalue("postgres")

    return of


@contextmanager
def started(*arguments):
    """The process that will be killed."""
    code = CHILD.replace("tests_reliability_savers", "module")
    loader = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('module', sys.argv.pop(1)); "
        "module = importlib.util.module_from_spec(spec); sys.modules['module'] = module; "
        f"spec.loader.exec_module(module); exec(compile({code!r}, 'child', 'exec'))"
    )
    process = subprocess.Popen([sys.executable, "-c", loader, __file__, *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_expansions(saver, config, count):
    """Poll until so many points are in the database: a database tells nobody by itself."""
    for _ in range(1500):
        found = [
            write
            for kept in saver.list({"configurable": {"thread_id": config["configurable"]["thread_id"]}})
            for write in kept.pending_writes or []
            if holds_expansions(*write[1:])
        ]
        if len(found) >= count:
            return
        time.sleep(0.02)
    pytest.fail(f"{len(found)} of {count} writes were seen")


def holds_expansions(channel, value):
    """Whether a task's write is a point's: the turn's first node writes there too, that there are none yet."""
    if channel == "expansions":
        return isinstance(value, list)
    return isinstance(value, dict) and "expansions" in value


def kill_in_mid_fan_out(endpoint, kind, where, config, durability, nested):
    thread = config["configurable"]["thread_id"]
    arguments = (kind, where, endpoint.base_url, thread, durability, nested)
    with endpoint.hold(len(HELD) + 1, is_held, timeout=90), started(*arguments) as process:
        endpoint.wait_for(lambda log: len([one for one in log if one_point(one.request)]) == 8, timeout=60)
        with saver_of(kind, where) as watching:
            wait_for_expansions(watching, config, FINISHED)
        process.kill()
        process.wait()
        endpoint.wait_for(lambda log: all(one.outcome for one in log))
    assert sorted(number_of(one.request) for one in endpoint.requests if one.outcome == "client_closed") == list(HELD)
    endpoint.reset()


async def go_on(endpoint, kind, where, config, nested):
    """A new graph, in another process than the one that was killed, goes on."""
    if not kind.startswith("async"):
        with saver_of(kind, where) as saver:
            return await asyncio.to_thread(graph_of(saver, endpoint.base_url, nested).invoke, None, config)
    async with asaver_of(kind, where) as saver:
        return await graph_of(saver, endpoint.base_url, nested).ainvoke(None, config)


def check_that_only_the_unfinished_were_asked_for(endpoint):
    assert all(one_point(one.request) for one in endpoint.requests)  # no second skeleton
    assert sorted(number_of(one.request) for one in endpoint.requests) == list(HELD)


CASES = [
    *[(kind, durability, "") for kind in ("sqlite", "async-sqlite") for durability in ("async", "sync")],
    ("sqlite", "sync", "nested"),
    ("sqlite", "sync", "pipelined"),
    ("async-sqlite", "async", "pipelined"),
]
POSTGRES_CASES = [("postgres", "sync", ""), ("async-postgres", "async", ""), ("async-postgres", "sync", "nested")]
POSTGRES_CASES += [("async-postgres", "async", "pipelined")]


@pytest.mark.parametrize(("kind", "durability", "nested"), CASES)
async def test_only_the_unfinished_points_are_asked_for_again(endpoint, where, kind, durability, nested):
    await check_resume(endpoint, kind, where(kind), durability, nested)


@pytest.mark.parametrize(("kind", "durability", "nested"), POSTGRES_CASES)
async def test_the_same_holds_on_a_real_postgresql(endpoint, where, kind, durability, nested):
    await check_resume(endpoint, kind, where(kind), durability, nested)


async def check_resume(endpoint, kind, place, durability, nested):
    config = {"configurable": {"thread_id": uuid.uuid4().hex}}
    await asyncio.to_thread(kill_in_mid_fan_out, endpoint, kind, place, config, durability, nested)
    result = await go_on(endpoint, kind, place, config, nested)
    check_that_only_the_unfinished_were_asked_for(endpoint)
    answer = result["messages"][-1].text
    assert [f"**{number}. " in answer for number in range(1, 9)] == [True] * 8
    assert "missing" not in answer
    assert len(result["messages"]) == 2
    if nested != "nested":
        assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}
        # The four calls that were cut off by the kill are known to nobody.
        assert result["usage"]["total"]["calls"] == 9


async def test_a_process_killed_while_it_drafts_asks_for_the_skeleton_again(endpoint, where):
    config = {"configurable": {"thread_id": "1"}}
    with (
        endpoint.hold(2, timeout=90),
        started("sqlite", where("sqlite"), endpoint.base_url, "1", "sync", "") as process,
    ):
        await endpoint.wait_for_async(lambda log: log, timeout=60)
        process.kill()
        process.wait()
    endpoint.reset()
    result = await go_on(endpoint, "sqlite", where("sqlite"), config, "")
    assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}
    assert len(endpoint.requests) == 9


async def test_a_pipelined_skeleton_goes_on_from_the_titles_whose_points_were_begun(endpoint, where):
    """The process is killed when the skeleton is half written, and two of its points are finished."""
    config = {"configurable": {"thread_id": "1"}}
    place = where("sqlite")
    endpoint.faults = [Fault(Stall(after_tokens=12), lambda request: not one_point(request))]
    with started("async-sqlite", place, endpoint.base_url, "1", "sync", "pipelined") as process:
        with saver_of("sqlite", place) as watching:
            await asyncio.to_thread(wait_for_expansions, watching, config, 2)
        process.kill()
        process.wait()
    begun = sorted(number_of(one.request) for one in endpoint.requests if one_point(one.request))
    endpoint.wait_for(lambda log: all(one.outcome for one in log))
    finished = {number_of(one.request) for one in endpoint.requests if one.outcome == "ok"}
    assert begun == [1, 2]
    endpoint.reset()
    endpoint.faults = []
    result = await go_on(endpoint, "async-sqlite", place, config, "pipelined")
    skeleton, *points = sorted(endpoint.requests, key=lambda one: one_point(one.request))
    assert "These 2 points are kept." in skeleton.request.last_user
    assert not finished & {number_of(one.request) for one in points}
    assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}
    assert len(result["expansions"]) == 8


async def test_with_durability_exit_nothing_is_kept(endpoint, where):
    config = {"configurable": {"thread_id": "1"}}
    with (
        endpoint.hold(9, is_held, timeout=90),
        started("sqlite", where("sqlite"), endpoint.base_url, "1", "exit", "") as process,
    ):
        await endpoint.wait_for_async(lambda log: len([one for one in log if one_point(one.request)]) == 8, timeout=60)
        process.kill()
        process.wait()
    with pytest.raises(EmptyInputError):
        await go_on(endpoint, "sqlite", where("sqlite"), config, "")


@pytest.mark.parametrize(
    "text", ["Why\x00?", "Why \ud800?", "Why \u202e\u200b\U0001f331?"], ids=["NUL", "surrogate", "unseen"]
)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_database_keeps_a_hostile_question(endpoint, where, kind, text):
    config = {"configurable": {"thread_id": uuid.uuid4().hex}}
    with saver_of(kind, where(kind)) as saver:
        graph = create_sot_graph(endpoint.chat_model(), checkpointer=saver)
        result = graph.invoke({"question": text}, config)
        assert graph.get_state(config).values["answer"] == result["answer"]
        again = graph.invoke({"messages": [HumanMessage(text)]}, config)
        assert again["route"] == "skeleton"


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_retry_of_failed_points_works_from_a_database(endpoint, where, kind):
    config = {"configurable": {"thread_id": uuid.uuid4().hex}}
    endpoint.faults = [Fault(Status(400), is_held)]
    with saver_of(kind, where(kind)) as saver:
        create_sot_graph(endpoint.chat_model(), checkpointer=saver).invoke({"question": QUESTION}, config)
    endpoint.faults = []
    endpoint.reset()
    with saver_of(kind, where(kind)) as saver:
        result = retry_failed_points(create_sot_graph(endpoint.chat_model(), checkpointer=saver), config)
    check_that_only_the_unfinished_were_asked_for(endpoint)
    assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_deleted_thread_is_gone(endpoint, where, kind):
    config = {"configurable": {"thread_id": uuid.uuid4().hex}}
    with saver_of(kind, where(kind)) as saver:
        graph = create_sot_graph(endpoint.chat_model(), checkpointer=saver)
        graph.invoke({"question": QUESTION}, config)
        assert (
            len(list(saver.list(config))) == 5
        )  # however many points: the input, the start, the skeleton, the points, the answer
        graph.checkpointer.delete_thread(config["configurable"]["thread_id"])
        assert list(saver.list(config)) == []
        assert graph.get_state(config).values == {}
