"""What LangSmith's client logs once it is quieted: one WARNING an hour and address, the rest as DEBUG."""

import logging
import time
from types import SimpleNamespace

import pytest
from langchain_core.tracers import LangChainTracer
from langsmith import Client
from langsmith.utils import get_env_var

from sot_graph import create_sot_graph
from sot_graph.observability.langsmith_log_filter import OutageFilter, is_switched_on, quiet_langsmith
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

HERE = "Failed to get info from http://langsmith.here:1984: LangSmithAuthError('Authentication failed')"
BATCH = "Failed to multipart ingest runs: Authentication failed for http://langsmith.here:1984/runs/multipart"
THERE = "Failed to get info from http://langsmith.there: LangSmithAPIError('Server error (500)')"
HOSTED = "Failed to get info from https://api.smith.langchain.com: LangSmithConnectionError('Connection error')"
FOLLOWS = "Run compression is not enabled. Please update to the latest version of LangSmith."


class Log(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)

    @property
    def lines(self):
        return [f"{record.levelname} {record.getMessage()}" for record in self.records]


@pytest.fixture
def now():
    return SimpleNamespace(seconds=0.0)


@pytest.fixture
def logger(now):
    """A logger as LangSmith's client has one, with the filter."""
    logger = logging.Logger("langsmith.client.of_the_test", logging.WARNING)
    logging.Logger.manager.loggerDict[logger.name] = logger
    logger.addFilter(OutageFilter(lambda: now.seconds))
    yield logger
    del logging.Logger.manager.loggerDict[logger.name]


@pytest.fixture
def log(logger):
    log = Log()
    logger.addHandler(log)
    return log


def test_the_first_failure_is_a_warning_and_what_follows_is_not(logger, log):
    for message in (HERE, FOLLOWS, BATCH, BATCH):
        logger.warning(message)
    [line] = log.lines
    assert line.startswith("WARNING LangSmith does not take traces: Failed to get info from http://langsmith.here:1984")


def test_at_the_level_debug_all_of_it_is_there(logger, log):
    logger.setLevel(logging.DEBUG)
    for message in (HERE, FOLLOWS, BATCH):
        logger.warning(message)
    assert log.lines[1:] == [f"DEBUG {FOLLOWS}", f"DEBUG {BATCH}"]


def test_another_address_is_another_warning(logger, log):
    for message in (HERE, THERE, HERE, THERE):
        logger.warning(message)
    assert ["langsmith.here" in line for line in log.lines] == [True, False]


def test_after_an_hour_it_is_warned_again_with_what_was_not(logger, log, now):
    for message in (HERE, BATCH, BATCH):
        logger.warning(message)
    now.seconds = 3599.0
    logger.warning(BATCH)
    assert len(log.lines) == 1
    now.seconds = 3600.0
    logger.warning(BATCH)
    assert "does not take traces (3 more since the last warning): Failed to multipart" in log.lines[1]


def test_what_is_about_no_address_passes_while_nothing_fails(logger, log):
    logger.warning(FOLLOWS)
    logger.info(HERE)
    assert log.lines == [f"WARNING {FOLLOWS}"]


def test_what_is_about_no_address_is_warned_of_once(logger, log, now):
    for _ in range(3):
        logger.warning("Failed to multipart ingest runs: ValueError: api_url must start with http:// or https://")
    logger.warning(FOLLOWS)
    assert len(log.lines) == 2
    now.seconds = 3601
    logger.warning(FOLLOWS)
    assert len(log.lines) == 3


def test_neither_a_traceback_nor_a_key_nor_the_ids_of_runs_are_in_the_warning(logger, log):
    key = "sk-" + "0123456789abcdef" * 2
    try:
        raise ValueError(key)
    except ValueError:
        logger.exception("%s with %s trace=0a1b,id=2c3d; trace=4e5f,id=6a7b", HERE, key)
    [record] = log.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert key not in record.getMessage()
    assert "trace=" not in record.getMessage()


@pytest.fixture
def without_key(monkeypatch):
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    for name in ("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    get_env_var.cache_clear()
    yield
    get_env_var.cache_clear()


def test_that_a_key_is_missing_has_been_said_as_the_client_was_made(logger, log, without_key):
    for message in (HOSTED, FOLLOWS):
        logger.warning(message)
    assert log.lines == []


@pytest.mark.parametrize("value", ["1", "True", "false", ""])
def test_what_langsmith_takes_for_no_tracing_is_none_here_either(monkeypatch, without_key, value):
    monkeypatch.setenv("LANGSMITH_TRACING", value)
    assert not is_switched_on()
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    get_env_var.cache_clear()
    assert is_switched_on()


def test_a_client_that_was_given_its_key_is_warned_of(logger, log, without_key):
    [quiet] = logger.filters
    quiet.know(Client(api_url="https://api.smith.langchain.com", api_key="lsv2", auto_batch_tracing=False))
    logger.warning(HOSTED)
    assert len(log.lines) == 1


@pytest.fixture
def client_logger():
    """The real one, without the filter that these tests put there."""
    logger = logging.getLogger("langsmith.client")
    before = list(logger.filters)
    logger.filters.clear()
    yield logger
    logger.filters[:] = before


def test_neither_making_a_graph_nor_a_traced_run_touches_the_clients_log(client_logger, recorder):
    names = ("", "langsmith")
    before = [list(logging.getLogger(name).filters) for name in names]
    graph = create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought()))
    graph.invoke({"question": "Why?"}, {"callbacks": [LangChainTracer(client=recorder.client())]})
    assert client_logger.filters == []
    assert [list(logging.getLogger(name).filters) for name in names] == before


def test_a_program_that_asks_for_it_has_one_filter(client_logger):
    client = Client(api_url="https://api.smith.langchain.com", api_key="lsv2", auto_batch_tracing=False)
    quiet = quiet_langsmith()
    assert client_logger.filters == [quiet]
    assert quiet_langsmith(client) is quiet
    assert client_logger.filters == [quiet]
    client_logger.handle(client_logger.makeRecord("langsmith.client", logging.WARNING, "", 0, HOSTED, (), None))
    assert "Connection error" in quiet.first_reason


def test_a_very_long_message_takes_no_long_time(logger, log):
    logger.warning("%s %s%s", HERE, " " * 1_000_000, "trace=a" * 100_000)
    assert len(log.lines) == 1
    assert len(log.lines[0]) < 400


class Unreadable:
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "arguments",
    [
        ("http://[:::::] is away",),
        ("%s", Unreadable()),
        (" " * 1_000_000,),
        ("trace=a,id=b; " * 100_000 + " " * 20_000,),
    ],
    ids=["brackets around no address", "an argument that can't be shown", "spaces", "ids"],
)
def test_no_message_of_langsmiths_costs_a_run(logger, arguments):
    started = time.thread_time()
    logger.warning(*arguments)
    assert time.thread_time() - started < 1
