"""How many calls a minute, and how many tokens: in a time of the tests' own."""

import asyncio

import pytest

from sot_graph import CallLimiter, SotConfigError, create_sot_graph
from sot_graph.concurrency import call_limiter
from sot_graph.concurrency.call_limiter import Pace
from sot_graph.testing import Physics, SimulatedEndpoint, SkeletonResponder


class Clock:
    """Seconds that pass only where somebody sleeps."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(call_limiter, "Pace", lambda per_minute: Pace(per_minute, clock))
    monkeypatch.setattr(call_limiter.asyncio, "sleep", clock.sleep)
    return clock


async def one_call(limiter, clock, tokens=0):
    """When the call began, in seconds from the tests' beginning."""
    async with limiter:
        began = clock.now - 1000.0
        if tokens:
            limiter.add_tokens(tokens)
    return began


async def test_calls_begin_at_the_rate_that_is_allowed(clock):
    limiter = CallLimiter(calls_per_minute=120)
    began = [await one_call(limiter, clock) for _ in range(10)]
    # What one second brings may be used at once.
    assert began == [0.0, 0.0, 0.0, *[pytest.approx(0.5 * number) for number in range(1, 8)]]


async def test_time_that_nobody_used_is_not_saved_up(clock):
    limiter = CallLimiter(calls_per_minute=60)
    await one_call(limiter, clock)
    clock.now += 1000
    began = [await one_call(limiter, clock) for _ in range(4)]
    assert began == [1000.0, 1000.0, 1001.0, 1002.0]


async def test_tokens_are_paid_for_when_they_are_known(clock):
    limiter = CallLimiter(tokens_per_minute=6000)  # a hundred a second
    began = [await one_call(limiter, clock, tokens=1000) for _ in range(31)]
    assert began[-1] - began[1] == pytest.approx(290, abs=15)


async def test_tokens_of_unequal_calls_add_up_to_the_rate(clock):
    limiter = CallLimiter(tokens_per_minute=60_000)
    sizes = [100, 5000, 20, 900, 3000] * 20
    for size in sizes:
        await one_call(limiter, clock, tokens=size)
    assert clock.now - 1000.0 == pytest.approx(sum(sizes) / 1000, rel=0.03)


async def test_a_call_that_ends_without_a_count_leaves_nothing_behind(clock):
    limiter = CallLimiter(2, tokens_per_minute=6000)
    for _ in range(3):
        await one_call(limiter, clock)
    assert limiter._reserved == {}
    assert limiter.in_flight == 0


async def test_who_leaves_while_waiting_for_the_rate_gives_the_place_back():
    limiter = CallLimiter(1, calls_per_minute=0.001, tokens_per_minute=0.001)
    async with limiter:
        pass
    due = [limiter._calls._due, limiter._tokens._due]
    for _ in range(2):
        waiting = asyncio.create_task(limiter.__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert limiter.in_flight == 0
        # Nor does who comes next wait for what was never called.
        assert [limiter._calls._due, limiter._tokens._due] == pytest.approx(due)


@pytest.mark.parametrize(
    "rates", [{"calls_per_minute": 0}, {"tokens_per_minute": -1}, {"calls_per_minute": float("inf")}]
)
def test_a_rate_that_is_none_is_refused(rates):
    with pytest.raises(SotConfigError, match="above 0"):
        CallLimiter(**rates)


async def test_a_graphs_calls_and_tokens_are_counted():
    limiter = CallLimiter(calls_per_minute=1e9, tokens_per_minute=1e9)
    with SimulatedEndpoint(SkeletonResponder(points=3), physics=Physics.instant()) as endpoint:
        graph = create_sot_graph(endpoint.chat_model(), limiter=limiter)
        result = await graph.ainvoke({"question": "How do plants grow?"})
    total = result["usage"]["total"]
    assert limiter._counted == total["input_tokens"] + total["output_tokens"]
    assert limiter._counted_calls == total["calls"]


def blocking_expander(model):
    return lambda given: model.invoke(given["messages"]).text


def awaiting_expander(model):
    async def write(given):
        return (await model.ainvoke(given["messages"])).text

    return write


@pytest.mark.parametrize("make_expander", [blocking_expander, awaiting_expander])
async def test_tokens_of_an_expanders_calls_are_set_off_against_what_was_reserved(make_expander, caplog, monkeypatch):
    taken = []
    monkeypatch.setattr(Pace, "take", lambda self, units: taken.append(units) or 0.0)
    monkeypatch.setattr(Pace, "correct", lambda self, units: taken.append(units))
    limiter = CallLimiter(tokens_per_minute=1e9)
    with SimulatedEndpoint(SkeletonResponder(points=3), physics=Physics.instant()) as endpoint:
        model = endpoint.chat_model()
        graph = create_sot_graph(model, expander=make_expander(model), limiter=limiter)
        await graph.ainvoke({"question": "How do plants grow?"})
    assert "Error in" not in caplog.text
    assert limiter._counted_calls == 4
    assert sum(taken) == pytest.approx(limiter._counted)
