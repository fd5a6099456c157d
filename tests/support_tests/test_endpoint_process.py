"""The endpoint in a process of its own."""

from typing import Any

import openai
import pytest

from sot_graph.testing import SimulatedEndpoint
from tests.support.endpoint_process import EndpointProcess


def create(client: openai.OpenAI, text: str) -> Any:
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])


def test_it_runs_in_a_process_of_its_own():
    with EndpointProcess(ttft=0, tps=0, points=2, words=3) as endpoint:
        with openai.OpenAI(base_url=endpoint.base_url, api_key="right", max_retries=0) as client:
            listed = create(client, "A numbered list, please.")
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model="m", messages=[])
        log = endpoint.log()
        endpoint.reset()
        assert endpoint.log()["requests"] == []
        assert endpoint.pid

    assert listed.choices[0].message.content == "1. Early beginnings\n2. Main causes"
    assert [entry["outcome"] for entry in log["requests"]] == ["ok", "rejected"]
    assert log["max_in_flight"] == 1
    assert endpoint.pid is None


def test_a_process_that_does_not_start_says_so():
    with SimulatedEndpoint() as endpoint, pytest.raises(RuntimeError, match="did not start"):
        EndpointProcess(port=endpoint.port).start()
