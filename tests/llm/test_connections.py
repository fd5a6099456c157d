"""The connections of a model's calls: used again, never more than the limit, and the caller's settings hold."""

import asyncio
import json
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager

import httpx
import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from sot_graph.llm import openai_client
from sot_graph.llm.loop_bound_model import LoopModel
from sot_graph.llm.provider_errors import RETRYABLE, explain, meaning_of
from tests.support.http_errors import openai_http

ASK = [HumanMessage("Why is the sky blue?")]


def completion(text):
    message = {"role": "assistant", "content": text}
    body = json.dumps({"id": "1", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body.encode(),
    )


class Server:
    """Answers each request with how many its connection has had; while it holds, it waits for `let_go` before that."""

    def __init__(self):
        self.connections = 0
        self.heads = []
        self.holds = False
        self.held = 0
        self.all_held = asyncio.Event()
        self.expected = 0
        self.let_go = asyncio.Event()
        self.open = 0
        self.all_gone = asyncio.Event()

    def hold(self, expected):
        self.holds, self.expected = True, expected

    async def __call__(self, reader, writer):
        self.connections += 1
        self.open += 1
        try:
            await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.open -= 1
            if not self.open:
                self.all_gone.set()

    async def _answer(self, reader, writer):
        number = 0
        while head := (await reader.readuntil(b"\r\n\r\n")).decode().lower():
            await reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))
            self.heads.append(head)
            number += 1
            if self.holds:
                self.held += 1
                if self.held == self.expected:
                    self.all_held.set()
                await self.let_go.wait()
            writer.write(completion(str(number)))
            await writer.drain()


@asynccontextmanager
async def listening(answer, **kwargs):
    listener = await asyncio.start_server(answer, "127.0.0.1", 0, **kwargs)
    try:
        yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()


@pytest.fixture
async def server():
    running = Server()
    async with listening(running) as running.address:
        yield running


def chat(address, scheme="http", **settings):
    return ChatOpenAI(model="m", base_url=f"{scheme}://{address}/v1", api_key="any", **settings)


async def ask(model):
    return str((await (await model.for_running_loop()).ainvoke(ASK)).text)


async def test_one_call_after_another_uses_the_same_connection(server):
    model = LoopModel(chat(server.address))
    assert [await ask(model) for _ in range(3)] == ["1", "2", "3"]
    assert server.connections == 1


async def test_each_call_in_flight_has_a_connection_of_its_own(server):
    server.hold(20)
    model = LoopModel(chat(server.address))
    asked = [asyncio.create_task(ask(model)) for _ in range(20)]
    await server.all_held.wait()
    server.let_go.set()
    assert await asyncio.gather(*asked) == ["1"] * 20
    assert server.connections == 20


@pytest.fixture
def two_connections(monkeypatch):
    monkeypatch.setattr(openai_client, "_MOST_CONNECTIONS", 2)


async def test_calls_beyond_the_limit_wait_for_a_connection_and_get_one(server, two_connections):
    server.hold(2)
    model = LoopModel(chat(server.address))
    asked = [asyncio.create_task(ask(model)) for _ in range(6)]
    await server.all_held.wait()
    server.let_go.set()
    await asyncio.gather(*asked)
    assert server.connections == 2
    assert model.connections.limit == 2  # a call that would have to wait is not even prepared


async def test_the_limit_stays_within_the_files_that_the_process_may_open(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 4096))
    assert LoopModel(chat("127.0.0.1:9")).connections.limit == 75
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert LoopModel(chat("127.0.0.1:9")).connections.limit == 1000


async def test_who_leaves_gives_the_place_free(server, two_connections):
    server.hold(2)
    model = LoopModel(chat(server.address))
    leavers = [asyncio.create_task(ask(model)) for _ in range(2)]
    await server.all_held.wait()
    waiter = asyncio.create_task(ask(model))
    server.let_go.set()
    for leaver in leavers:
        leaver.cancel()
    assert await waiter == "1"  # on a connection of its own: those of the leavers are closed


async def test_a_waiter_who_leaves_takes_no_place_along(server, two_connections):
    server.hold(2)
    model = LoopModel(chat(server.address))
    first = [asyncio.create_task(ask(model)) for _ in range(2)]
    await server.all_held.wait()
    waiters = [asyncio.create_task(ask(model)) for _ in range(3)]
    await asyncio.sleep(0.05)
    waiters[1].cancel()
    server.let_go.set()
    assert len(await asyncio.gather(*first, waiters[0], waiters[2])) == 4


async def test_a_connection_that_was_idle_for_too_long_is_not_used_again(server, monkeypatch):
    monkeypatch.setattr(openai_client, "_KEEPALIVE_SECONDS", 0.01)
    model = LoopModel(chat(server.address))
    assert await ask(model) == "1"
    await asyncio.sleep(0.05)
    assert await ask(model) == "1"
    assert server.connections == 2


async def test_a_connection_that_the_server_has_closed_is_not_used_again():
    async def answer_once(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(completion("hi"))
        await writer.drain()
        writer.close()

    async with listening(answer_once) as address:
        model = LoopModel(chat(address))
        assert [await ask(model) for _ in range(3)] == ["hi"] * 3


def test_the_end_of_the_loop_closes_what_is_in_use_too():
    async def leave_one_open(address):
        model = LoopModel(chat(address))
        chunks = (await model.for_running_loop()).astream(ASK)
        await anext(chunks)

    async def main():
        gone = asyncio.Event()

        async def begin(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            piece = {"id": "1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]}
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            writer.write(b"data: %s\n\n" % json.dumps(piece).encode())
            while await reader.read(1000):
                pass
            writer.close()
            gone.set()

        async with listening(begin) as address:
            await asyncio.to_thread(asyncio.run, leave_one_open(address))
            await asyncio.wait_for(gone.wait(), 30)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        pytest.param([], "could not be reached", id="nothing"),
        pytest.param([b"What?\r\n\r\n"], "could not be reached", id="no HTTP"),
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"], "its reply broke off", id="half a body"),
    ],
)
async def test_a_broken_answer_is_worth_another_try_and_explained(parts, told, two_connections):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
        await writer.drain()
        writer.close()

    async with listening(answer) as address:
        model = LoopModel(chat(address))
        for _ in range(4):  # the place is not lost
            with pytest.raises(Exception) as caught:  # noqa: PT011  (of the OpenAI client's, or httpx2's)
                await ask(model)
            assert meaning_of(caught.value) in RETRYABLE
            assert told in explain(caught.value)


async def test_a_server_that_is_silent_for_too_long_did_not_answer_in_time(server):
    server.hold(1)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await ask(LoopModel(chat(server.address, timeout=0.05)))
    assert meaning_of(caught.value) in RETRYABLE
    assert explain(caught.value) == "the model did not answer in time"


async def test_nobody_there_is_told_as_such_and_takes_no_place(unused_tcp_port, two_connections):
    model = LoopModel(chat(f"127.0.0.1:{unused_tcp_port}"))
    for _ in range(4):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await ask(model)
        assert meaning_of(caught.value) in RETRYABLE
        assert explain(caught.value).startswith("the model could not be reached (")


# --- The caller's settings ---


async def test_a_proxy_of_the_callers_is_used(server):
    model = LoopModel(chat("model.invalid", openai_proxy=f"http://{server.address}"))
    assert await ask(model) == "1"
    assert server.heads[0].startswith("post http://model.invalid/v1/chat/completions ")


async def test_so_is_one_of_the_environment_but_for_hosts_that_need_none(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://{server.address}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    direct = Server()
    async with listening(direct) as address:
        assert await ask(LoopModel(chat("model.invalid"))) == "1"
        assert await ask(LoopModel(chat(address))) == "1"
    assert [head.partition(" http/")[0] for head in server.heads] == ["post http://model.invalid/v1/chat/completions"]
    assert [head.partition(" http/")[0] for head in direct.heads] == ["post /v1/chat/completions"]


async def test_socket_options_of_the_callers_are_set_and_leave_the_proxy_in_use(server, monkeypatch):
    asked = []
    setsockopt = socket.socket.setsockopt

    def watch(self, *args):
        asked.append(args)
        return setsockopt(self, *args)

    monkeypatch.setattr(socket.socket, "setsockopt", watch)
    option = (socket.SOL_SOCKET, socket.SO_SNDBUF, 54321)
    assert await ask(LoopModel(chat(server.address, http_socket_options=[option]))) == "1"
    assert option in asked
    proxy = f"http://{server.address}"
    assert await ask(LoopModel(chat("model.invalid", openai_proxy=proxy, http_socket_options=[option]))) == "1"


@pytest.fixture
def certificate(tmp_path):
    """A server's own certificate and key, in one file."""
    path = tmp_path / "certificate.pem"
    made = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *made.split(), "-keyout", path.with_suffix(".key"), "-out", path], check=True)
    path.write_text(path.read_text() + path.with_suffix(".key").read_text())
    return path


async def test_a_certificate_authority_of_the_environment_is_trusted(monkeypatch, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Server()
    async with listening(server, ssl=context) as address:
        openai_client._ssl_context.cache_clear()
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await ask(LoopModel(chat(address, "https")))
        assert "certificate" in explain(caught.value)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        openai_client._ssl_context.cache_clear()
        assert await ask(LoopModel(chat(address, "https"))) == "1"
    openai_client._ssl_context.cache_clear()


@pytest.mark.parametrize("library", [openai_http, httpx], ids=["the client's own", "httpx"])
async def test_an_http_client_of_the_callers_is_used_as_it_is(server, library):
    async with library.AsyncClient(headers={"x-mine": "yes"}) as mine:
        assert await ask(LoopModel(chat(server.address, http_async_client=mine))) == "1"
        assert not mine.is_closed
    assert "x-mine: yes" in server.heads[0]
