"""Who reaches the server's port without its key: other users of the machine, and web pages in a browser on it."""

import json
import re
from pathlib import Path

import httpx
import pytest

from sot_graph.studio import __main__ as studio_command

ASK = {"assistant_id": "sot_graph", "input": {"question": "How do plants grow?"}}
DOORS = [
    *(
        ("POST", path)
        for path in ("/runs/wait", "/runs/stream", "/runs", "/threads", "/threads/search", "/store/items")
    ),
    *(
        ("POST", path)
        for path in ("/assistants/search", "/assistants", "/mcp/", "/a2a/sot_graph", "/store/items/search")
    ),
    *(("GET", path) for path in ("/info", "/openapi.json", "/docs", "/mcp/", "/ui/sot_graph")),
]
STRANGERS = {
    "another user": {},
    "one who says to be Studio": {"x-auth-scheme": "langsmith", "origin": "https://smith.langchain.com"},
    "a page that sends without asking": {"origin": "http://evil.example", "content-type": "text/plain"},
    "a page of a name that leads here": {"origin": "http://evil.example", "host": "evil.example"},
}
STUDIO = "https://smith.langchain.com"


@pytest.fixture
def bare(server, endpoint):
    """Where the server listens, without its key."""
    return server.url.removesuffix(server.key)


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("key", ["", "/none", "/noauth", "//"])
def test_no_door_opens_without_the_key(bare, endpoint, who, key):
    with httpx.Client(headers=STRANGERS[who], trust_env=False) as client:
        for method, path in DOORS:
            reply = client.request(method, bare + key + path, json=ASK if method == "POST" else None)
            assert reply.status_code in {404, 405}, (method, path, reply.text)
            assert "access-control-allow-origin" not in reply.headers
    assert endpoint.requests == []


def test_what_opens_without_the_key_says_only_that_the_server_is_there(bare, server, sync_client):
    thread = sync_client.threads.create()["thread_id"]
    sync_client.runs.wait(thread, "sot_graph", input={"question": "How do plants grow?"})
    assert httpx.get(f"{bare}/ok", trust_env=False).json()["ok"] is True
    # Which kinds of paths were asked for is told, as in `/threads/{thread_id}`, and nothing of what was in them.
    metrics = httpx.get(f"{bare}/metrics", trust_env=False).text
    assert [word for word in ("sot_graph", "plants", thread, server.key) if word in metrics] == []


def preflight(server, origin):
    """What a browser asks before a page elsewhere may send JSON."""
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    return httpx.options(f"{server.url}/runs/wait", headers=asked, trust_env=False)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://smith.langchain.com.evil.example",
        "null",
        "http://localhost.evil.example",
        "https://127.0.0.1.evil.example:2024",
    ],
)
def test_a_page_elsewhere_may_read_nothing_even_with_the_key(server, endpoint, origin):
    reply = preflight(server, origin)
    assert reply.status_code == 400
    assert "access-control-allow-origin" not in reply.headers
    reply = httpx.get(f"{server.url}/info", headers={"origin": origin}, trust_env=False)
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("origin", [STUDIO, "http://localhost:3000", "http://127.0.0.1:5173"])
def test_studios_page_and_this_machines_may_ask_with_the_key(server, endpoint, origin):
    reply = preflight(server, origin)
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, origin)
    reply = httpx.post(f"{server.url}/runs/wait", json=ASK, headers={"origin": origin}, trust_env=False, timeout=60)
    assert reply.json()["answer"]
    assert reply.headers["access-control-allow-origin"] == origin


def test_each_start_has_a_key_of_its_own_unless_one_is_given(monkeypatch, capsys):
    from langgraph_cli.cli import cli

    monkeypatch.setattr(studio_command.sys, "argv", ["studio", "--port", "0"])
    monkeypatch.setattr(cli, "main", lambda *_, **__: None)
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    keys = []
    for given in (None, None, "/mine", ""):
        monkeypatch.delenv("MOUNT_PREFIX", raising=False)
        if given is not None:
            monkeypatch.setenv("MOUNT_PREFIX", given)
        studio_command.main()
        keys.append(studio_command.os.environ["MOUNT_PREFIX"])
        assert ("The key to the server" in capsys.readouterr().err) == bool(keys[-1])
    assert keys[2:] == ["/mine", ""]
    assert len({*keys[:2]}) == 2
    assert all(re.fullmatch(r"/[\w-]{32}", key) for key in keys[:2])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no process's umask")
def test_what_the_server_keeps_is_for_its_user_alone_and_holds_no_key(server, sync_client):
    thread = sync_client.threads.create()["thread_id"]
    sync_client.runs.wait(thread, "sot_graph", input={"question": "How do plants grow?"})
    kept = [sync_client.runs.list(thread), sync_client.threads.get(thread), sync_client.threads.get_history(thread)]
    assert "plants" in json.dumps(kept)
    assert server.key.strip("/") not in json.dumps(kept)
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert re.search(r"^Umask:\s*0077$", status, re.MULTILINE)
