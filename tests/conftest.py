"""What tests of all kinds share."""

import asyncio

import pytest


@pytest.fixture(params=["invoke", "ainvoke"])
def run(request):
    """Runs a graph, an agent or a tool to its end, in both worlds; without an input, with the module's `ASK`."""
    asked = getattr(request.module, "ASK", None)

    async def call(graph, given=asked, config=None, **kwargs):
        if request.param == "ainvoke":
            return await graph.ainvoke(given, config, **kwargs)
        return await asyncio.to_thread(graph.invoke, given, config, **kwargs)

    return call
