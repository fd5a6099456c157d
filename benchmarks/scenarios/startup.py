"""What a fresh process pays before it does anything, beside importing what this project builds on."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from functools import partial

from benchmarks.figures import Result
from benchmarks.rounds import interleaved
from benchmarks.scenarios.base import Plan, Scenario
from tests.support.endpoint_process import EndpointProcess

__all__ = ["SCENARIO"]

_DEPENDENCIES = "import langgraph.graph, langchain_openai, instructor, openai"
_FIRST_ANSWER = """
from langchain_openai import ChatOpenAI
from sot_graph import create_sot_graph
chat = ChatOpenAI(model="simulated", base_url={base_url!r}, api_key="any", use_responses_api=False)
assert create_sot_graph(chat).invoke({{"question": "How do plants grow?"}})["answer"]
"""


async def _run(*arguments: str) -> tuple[float, float]:
    """Wall and CPU seconds of a Python process."""
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    before = os.times()
    status = await process.wait()
    after = os.times()
    if status:
        message = f"python {arguments[0]} ... ended with status {status}."
        raise RuntimeError(message)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, cpu


async def measure(plan: Plan) -> Result:
    """Each in a new process, interleaved."""
    with EndpointProcess(ttft=0, tps=0) as endpoint:
        ways = {
            "python": partial(_run, "-c", "pass"),
            "import sot_graph": partial(_run, "-c", "import sot_graph"),
            "sot-graph --help": partial(_run, "-m", "sot_graph", "--help"),
            "import what it builds on": partial(_run, "-c", _DEPENDENCIES),
            "first answer": partial(_run, "-c", _FIRST_ANSWER.format(base_url=endpoint.base_url)),
        }
        plan.steps.begin(len(ways) * (plan.rounds + 1))
        took = await interleaved(ways, plan.rounds + 1, plan.steps)
    result = Result("start-up")
    for name, runs in took.items():
        result.add("seconds", name, "s", [wall for wall, _ in runs[1:]])  # the first round compiles and fills caches
        result.add("CPU seconds", name, "s", [cpu for _, cpu in runs[1:]])
    spent = result.groups["CPU seconds"]
    result.compare("first answer / import what it builds on", spent["first answer"], spent["import what it builds on"])
    return result


SCENARIO = Scenario("start-up", "a fresh process", measure, 2)
