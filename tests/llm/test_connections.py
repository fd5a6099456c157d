"""`ManyConnections`: as many as there are requests in flight, used again, and never more than the limit."""

import asyncio
import gc
import ssl
from contextlib import asynccontextmanager

import httpx2
import pytest

from sot_graph.llm.connections import ManyConnections, _Line


class Server:
    """Answers each request with how many its connection has had; holds those for /held until it is let go."""

    def __init__(self):
        self.connections = 0
        self.held = 0
        self.all_held = asyncio.Event()
        self.expected = 0
        self.let_go = asyncio.Event()
        self.open = 0
        self.all_gone = asyncio.Event()

    async def __call__(self, reader, writer):
        self.connections += 1
        number = 0
        while head := await reader.readuntil(b"\r\n\r\n"):
            number += 1
            if b"/held" in head:
                self.held += 1
                if self.held == self.expected:
                    self.all_held.set()
                await self.let_go.wait()
            body = str(number).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()


async def serve(reader, writer, server):
    server.open += 1
    try:
        await server(reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
        server.open -= 1
        if not server.open:
            server.all_gone.set()


@pytest.fixture
async def server():
    running = Server()
    listener = await asyncio.start_server(lambda r, w: serve(r, w, running), "127.0.0.1", 0)
    running.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield running
    listener.close()


def client(most=100, keepalive=60.0, timeout=30.0):
    transport = ManyConnections(ssl.create_default_context(), most=most, keepalive=keepalive)
    return httpx2.AsyncClient(transport=transport, timeout=timeout)


async def test_one_request_after_another_uses_the_same_connection(server):
    async with client() as http:
        assert [(await http.get(server.url)).text for _ in range(3)] == ["1", "2", "3"]
    assert server.connections == 1


async def test_each_request_in_flight_has_a_connection_of_its_own(server):
    server.expected = 20
    async with client() as http:
        asked = [asyncio.create_task(http.get(f"{server.url}/held")) for _ in range(20)]
        await server.all_held.wait()
        server.let_go.set()
        assert [reply.text for reply in await asyncio.gather(*asked)] == ["1"] * 20
    assert server.connections == 20


async def test_requests_beyond_the_limit_wait_for_a_connection_and_get_one(server):
    server.expected = 2
    async with client(most=2) as http:
        asked = [asyncio.create_task(http.get(f"{server.url}/held")) for _ in range(6)]
        await server.all_held.wait()
        server.let_go.set()
        await asyncio.gather(*asked)
    assert server.connections == 2


async def test_who_waits_for_too_long_is_told_so(server):
    server.expected = 1
    async with client(most=1, timeout=httpx2.Timeout(30.0, pool=0.05)) as http:
        first = asyncio.create_task(http.get(f"{server.url}/held"))
        await server.all_held.wait()
        with pytest.raises(httpx2.PoolTimeout, match="None of 1 connections"):
            await http.get(server.url)
        server.let_go.set()
        await first
        assert (await http.get(server.url)).text == "2"  # the place was not lost


async def test_who_leaves_gives_the_place_free(server):
    server.expected = 1
    async with client(most=1) as http:
        leaver = asyncio.create_task(http.get(f"{server.url}/held"))
        await server.all_held.wait()
        waiter = asyncio.create_task(http.get(server.url))
        leaver.cancel()
        assert (await waiter).text == "1"  # on a connection of its own: the leaver's is closed


async def test_a_waiter_who_leaves_takes_no_place_along(server):
    server.expected = 1
    async with client(most=1) as http:
        first = asyncio.create_task(http.get(f"{server.url}/held"))
        await server.all_held.wait()
        waiters = [asyncio.create_task(http.get(server.url)) for _ in range(3)]
        await asyncio.sleep(0)
        waiters[1].cancel()
        server.let_go.set()
        assert [reply.status_code for reply in await asyncio.gather(first, waiters[0], waiters[2])] == [200] * 3


async def test_a_connection_that_can_not_be_had_gives_its_place_free(server):
    async with client(most=1) as http:
        for _ in range(3):
            with pytest.raises(httpx2.ConnectError):
                await http.get("http://127.0.0.1:9")
        assert (await http.get(server.url)).text == "1"


async def test_a_connection_that_was_idle_for_too_long_is_not_used_again(server):
    async with client(keepalive=0.0) as http:
        assert [(await http.get(server.url)).text for _ in range(2)] == ["1", "1"]
    assert server.connections == 2


async def test_a_response_that_nobody_closes_gives_its_place_free_once_it_is_forgotten(server):
    async with client(most=1) as http:
        forgotten = await http.send(http.build_request("GET", server.url), stream=True)
        del forgotten
        gc.collect()
        async with asyncio.timeout(30):
            assert (await http.get(server.url)).text == "1"  # on another connection: that one was not read to its end
    assert server.connections == 2


async def test_closing_closes_what_is_in_use_too(server):
    http = client()
    response = await http.send(http.build_request("GET", server.url), stream=True)
    await http.aclose()
    assert not response.is_closed
    async with asyncio.timeout(30):
        await server.all_gone.wait()


async def test_closing_that_is_cancelled_closes_everything_all_the_same(server):
    server.expected = 5
    http = client()
    held = [asyncio.create_task(http.get(f"{server.url}/held")) for _ in range(5)]
    await server.all_held.wait()
    closing = asyncio.create_task(http.aclose())
    await asyncio.sleep(0)  # it has begun
    closing.cancel()
    async with asyncio.timeout(30):
        await asyncio.gather(closing, *held, return_exceptions=True)
        server.let_go.set()
        await server.all_gone.wait()


def answering(*parts):
    """A server that reads one request, writes these bytes, and hangs up."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
        await writer.drain()
        writer.close()

    return answer


@asynccontextmanager
async def listening(answer):
    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


async def test_a_connection_that_the_server_has_closed_is_not_used_again():
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    async with listening(answering(whole)) as url, client() as http:
        assert [(await http.get(url)).text for _ in range(3)] == ["hi"] * 3


async def test_nothing_is_kept_of_a_connection_that_broke():
    def kept():
        gc.collect()
        return {id(each) for each in gc.get_objects() if isinstance(each, _Line)}

    before = kept()
    async with listening(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi")) as url, client() as http:
        with pytest.raises(httpx2.RemoteProtocolError):
            await http.get(url)
        assert kept() <= before


async def test_one_that_leads_elsewhere_is_not_used_either(server):
    async with client(most=1) as http, listening(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as other:
        assert (await http.get(server.url)).text == "1"
        assert (await http.get(other)).status_code == 204
        assert (await http.get(server.url)).text == "1"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([], httpx2.RemoteProtocolError, id="nothing"),
        pytest.param([b"What?\r\n\r\n"], httpx2.RemoteProtocolError, id="no HTTP"),
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"], httpx2.RemoteProtocolError, id="half a body"),
    ],
)
async def test_a_broken_answer_is_the_error_that_httpx2_has_for_it(parts, expected):
    async with client(most=1) as http, listening(answering(*parts)) as url:
        for _ in range(2):  # the place is not lost
            with pytest.raises(expected):
                await http.get(url)


async def test_a_server_that_is_silent_for_too_long_is_a_timeout_of_httpx2(server):
    async with client(most=1, timeout=httpx2.Timeout(30.0, read=0.01)) as http:
        with pytest.raises(httpx2.ReadTimeout):
            await http.get(f"{server.url}/held")


async def test_nobody_there_is_an_error_of_httpx2(unused_tcp_port):
    async with client() as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get(f"http://127.0.0.1:{unused_tcp_port}")


async def test_a_url_of_another_kind_is_told_apart():
    async with client(most=1) as http:
        for _ in range(2):
            with pytest.raises(httpx2.UnsupportedProtocol, match="ftp://"):
                await http.get("ftp://example.org/v1")
