"""The embedded model's server: that it answers, is only for this machine, is quiet, and goes away."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from sot_graph.errors import SotConfigError
from sot_graph.local import LocalServer, local_model

pytestmark = pytest.mark.local_model

TINY = {"parallel": 2, "context_tokens": 512, "threads": 1}


def _port(base_url):
    return urlsplit(str(base_url)).port


def _listens(base_url):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", _port(base_url))) == 0


def _ask(server, body):
    """Send a request and don't wait for its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", _port(server.base_url))
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {server.api_key}"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection


def test_it_answers_and_counts_tokens(local_chat):
    answer = local_chat.invoke("Say hello.", max_tokens=8)
    assert answer.text.strip()
    assert 0 < answer.usage_metadata["output_tokens"] <= 8


def test_it_streams_and_counts_tokens(local_chat):
    chunks = list(local_chat.stream("Say hello.", max_tokens=8))
    assert sum(bool(chunk.text) for chunk in chunks) > 1
    assert any(chunk.usage_metadata for chunk in chunks)


def test_a_prefilled_answer_is_gone_on_with(local_chat):
    prompt = [("user", "Count from one to five in digits."), ("assistant", "1, 2, 3,")]
    whole = local_chat.invoke(prompt, max_tokens=6).text
    streamed = "".join(chunk.text for chunk in local_chat.stream(prompt, max_tokens=6))
    # llama.cpp repeats the prefill when it doesn't stream: what the stages have to take off.
    assert whole.removeprefix("1, 2, 3,").lstrip().startswith("4")
    assert streamed.lstrip().startswith("4")


def test_it_says_which_prompts_it_needs(local_chat):
    assert local_chat.metadata["sot_prompts"] == "small"
    assert local_chat.model_name == "smollm2-135m-instruct"


def test_one_event_loop_after_another_is_served_without_retries(local_chat):
    chat = local_chat.model_copy()

    async def three():
        return await asyncio.gather(*(chat.ainvoke("Hi", max_tokens=2) for _ in range(3)))

    client = chat.root_async_client.with_options(max_retries=0)
    chat.async_client = client.chat.completions
    answers = [answer for _ in range(3) for answer in asyncio.run(three())]
    assert all(answer.usage_metadata["output_tokens"] for answer in answers)


def test_a_proxy_in_the_environment_is_not_asked(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "OPENAI_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with local_model(**TINY, max_retries=0) as chat:
        assert chat.invoke("Hi", max_tokens=2).usage_metadata["output_tokens"]


def test_it_ends_with_its_block_and_can_be_had_again():
    for _ in range(2):
        with local_model(**TINY) as chat:
            address = chat.openai_api_base
            assert _listens(address)
        assert not _listens(address)


def test_two_run_at_once_and_one_ends_without_the_other():
    with LocalServer(**TINY) as first, LocalServer(**TINY) as second:
        addresses = first.base_url, second.base_url
        assert _port(addresses[0]) != _port(addresses[1])
        first.close()
        assert not _listens(addresses[0])
        assert _listens(addresses[1])


def test_a_server_starts_again_and_closing_twice_does_nothing():
    server = LocalServer(**TINY)
    for _ in range(2):
        with server:
            assert _listens(server.base_url)
        assert not _listens(server.base_url)
    server.close()


def test_a_client_of_the_callers_stays_open():
    with httpx.Client(trust_env=False, headers={"Connection": "close"}) as client:
        with local_model(**TINY, http_client=client) as chat:
            assert chat.invoke("Hi", max_tokens=2).usage_metadata["output_tokens"]
        assert not client.is_closed


def test_stopping_right_after_starting_does_not_hang():
    for _ in range(5):
        LocalServer(**TINY).start().close()


def test_a_server_that_nobody_holds_ends():
    address = LocalServer(**TINY).start().base_url
    assert not _listens(address)


@pytest.mark.skipif(sys.platform == "win32", reason="connections can't be cut there")
def test_closing_breaks_off_the_answers_that_are_being_written():
    endless = {"messages": [{"role": "user", "content": "Write a long story."}], "ignore_eos": True}
    with LocalServer(**TINY) as server:
        whole, streamed = (_ask(server, {**endless, "stream": stream}) for stream in (False, True))
        with closing(whole), closing(streamed):
            response = streamed.getresponse()
            assert response.readline().startswith(b"data:")
            server.close()  # Without cutting the connections this would never come back.
            with pytest.raises((OSError, http.client.HTTPException)):
                whole.getresponse().read()
            with pytest.raises((OSError, http.client.HTTPException)):
                response.read()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's list of sockets")
def test_it_listens_on_the_loopback_address_only():
    with LocalServer(**TINY) as server:
        port = f"{_port(server.base_url):04X}"
        listening = [
            line.split()[1]
            for table in ("tcp", "tcp6")
            if (path := Path("/proc/net", table)).exists()
            for line in path.read_text().splitlines()[1:]
            if line.split()[3] == "0A"
        ]
    assert [address for address in listening if address.endswith(f":{port}")] == [f"0100007F:{port}"]


DOORS = [
    *(
        ("GET", path)
        for path in ("/v1/models", "/props", "/slots", "/metrics", "/lora-adapters", "/tools", "/cors-proxy")
    ),
    *(("POST", path) for path in ("/v1/chat/completions", "/completion", "/tokenize", "/lora-adapters", "/props")),
    *(("POST", path) for path in ("/v1/responses", "/v1/messages", "/embeddings", "/slots/0", "/apply-template")),
]
STRANGERS = {
    "another user": {},
    "one who guesses": {"Authorization": "Bearer local"},
    "a page": {"Origin": "http://evil.example", "Content-Type": "text/plain"},
    "a page of a name that leads here": {"Host": "evil.example", "Origin": "http://evil.example"},
}


@pytest.fixture(scope="module")
def server():
    with LocalServer(**TINY) as running:
        yield running


def _status(server, method, path, headers):
    with closing(http.client.HTTPConnection("127.0.0.1", _port(server.base_url), timeout=10)) as connection:
        body = (
            json.dumps({"messages": [{"role": "user", "content": "Hi."}], "max_tokens": 1})
            if method == "POST"
            else None
        )
        connection.request(method, path, body, {"Connection": "close", **headers})
        return connection.getresponse().status


@pytest.mark.parametrize("who", STRANGERS)
def test_no_door_opens_without_the_key(server, who):
    statuses = {path: _status(server, method, path, STRANGERS[who]) for method, path in DOORS}
    assert set(statuses.values()) == {401}, statuses


def test_with_the_key_it_answers_and_the_doors_that_nobody_needs_stay_shut(server):
    key = {"Authorization": f"Bearer {server.api_key}"}
    assert _status(server, "POST", "/v1/chat/completions", key) == 200
    for method, path in [("GET", "/slots"), ("GET", "/metrics"), ("POST", "/props"), ("GET", "/tools")]:
        assert _status(server, method, path, key) in {403, 501}


def test_each_server_has_a_key_of_its_own():
    assert LocalServer(**TINY).api_key != LocalServer(**TINY).api_key


def test_a_file_that_llama_cpp_can_not_load_is_told_in_one_line(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(SotConfigError, match=r"could not start with .*broken\.gguf") as caught:
        LocalServer(path, **TINY).start()
    assert "\n" not in str(caught.value)


_QUIET = """
import openai
from sot_graph.local import LocalServer, local_model
from sot_graph.errors import SotConfigError
import sys

with local_model(parallel=3, context_tokens=1024, threads=1) as chat:
    chat.invoke("Hi", max_tokens=2)
    list(chat.stream("Hi", max_tokens=2))
    try:
        chat.invoke("word " * 20_000)
    except openai.BadRequestError:
        pass
    else:
        sys.exit("a prompt that is too long was taken")
try:
    LocalServer(sys.argv[1]).start()
except SotConfigError:
    pass
left_open = LocalServer(parallel=2, threads=1).start()
"""


def test_it_prints_nothing_whatever_happens(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    run = subprocess.run([sys.executable, "-c", _QUIET, str(broken)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


_INTERRUPTED = """
import sys, time
from sot_graph.local import local_model

try:
    with local_model(parallel=2, threads=1) as chat:
        for number, chunk in enumerate(chat.stream("Write a long story.", extra_body={"ignore_eos": True})):
            if number == 1:
                print(chat.openai_api_base, flush=True)
        time.sleep(600)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process there")
def test_ctrl_c_in_the_middle_of_an_answer_ends_everything():
    with subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        address = process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        rest, noise = process.communicate()
    assert (process.returncode, rest, noise) == (130, "", "")
    assert not _listens(address)


def test_ctrl_c_while_the_model_is_loaded_ends_the_command_with_130():
    """A server of xllamacpp that is let go of before it works would never end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI", "SOT_GRAPH"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "sot_graph", "ask", "Why do people dream?"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert "embedded model" in process.stderr.readline()
        assert process.stderr.readline() == "Loading the model ...\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
