"""When a reader has the first words, and the whole answer, with an opening that is begun beside the skeleton."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.contenders import Contender, Setup, chat_model, direct, sot_options
from benchmarks.figures import Result
from benchmarks.physics import hosted
from benchmarks.rounds import interleaved
from benchmarks.scenarios.base import Plan, Scenario
from benchmarks.scenarios.hosted import FIRST, WHOLE, Shape, first_words_seconds, warm
from sot_graph import SotOptions, astream_answer, create_sot_graph
from tests.support.endpoint_process import EndpointProcess

__all__ = ["SCENARIO", "WAYS"]

POINTS = 8


def _graph(options: Callable[[Setup], SotOptions], setup: Setup) -> Contender:
    graph = create_sot_graph(chat_model(setup.base_url), options=options(setup))
    return Contender("", None, lambda question: astream_answer(graph, {"question": question}))


WAYS: dict[str, Callable[[Setup], Contender]] = {
    "direct": direct,
    "sot_graph": partial(_graph, sot_options),
    "with an opening": partial(_graph, partial(sot_options, frame="opening")),
    "sot_graph pipelined": partial(_graph, partial(sot_options, dispatch="pipelined")),
    "pipelined, with an opening": partial(_graph, partial(sot_options, dispatch="pipelined", frame="opening")),
}


async def measure(plan: Plan) -> Result:
    """Every way once a round, streamed."""
    await warm(Shape())
    result = Result("opening", {"points": POINTS, "tokens a point": 60, "tokens of the opening": 40})
    with EndpointProcess(
        ttft=hosted.time_to_first_token, tps=hosted.tokens_per_second, points=POINTS, tokens=60
    ) as endpoint:
        contenders = {name: make(Setup(endpoint.base_url, POINTS)) for name, make in WAYS.items()}
        costs = {}
        for name, contender in contenders.items():  # connections, too
            endpoint.reset()
            await first_words_seconds(contender)
            costs[name] = [request["tokens_sent"] for request in endpoint.log()["requests"]]
        plan.steps.begin(plan.rounds * len(contenders))
        ways = {name: partial(first_words_seconds, contender) for name, contender in contenders.items()}
        reads = await interleaved(ways, plan.rounds, plan.steps)
        for contender in contenders.values():
            if contender.client is not None:
                await contender.client.close()
    for name, found in reads.items():
        result.add(FIRST, name, "s", [read.first for read in found])
        result.add(WHOLE, name, "s", [read.whole for read in found])
        result.add("calls", name, "", [len(costs[name])])
        result.add("tokens written", name, "", [sum(costs[name])])
    first, whole = result.groups[FIRST], result.groups[WHOLE]
    for name, without in (("with an opening", "sot_graph"), ("pipelined, with an opening", "sot_graph pipelined")):
        result.compare(f"{name}, {FIRST} / direct", first[name], first["direct"])
        result.compare(f"{name}, {WHOLE} / {without}", whole[name], whole[without])
    return result


SCENARIO = Scenario("opening", "an opening beside the skeleton", measure, 3, 1)
