"""`sot-graph play`: its page in real headless Chromium, on a simulated endpoint."""

import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import httpx
import pytest
from playwright.async_api import expect
from starlette.testclient import TestClient
from typer.testing import CliRunner

from sot_graph import SotOptions
from sot_graph.cli.app import app
from sot_graph.play.playground import playground, server_of
from sot_graph.testing import (
    Physics,
    ScriptedChatModel,
    SimulatedEndpoint,
    SkeletonResponder,
    answer_skeleton_of_thought,
)
from tests.support.clients import MissingProgramError, chromium, program, served

TITLES = ["Seed", "Soil", "Sun"]
HOSTILE = '</textarea></script><img src=x onerror="window.hacked = 1"> {{ 7 * 7 }} **bold** \u202eturned'
SECONDS = 30_000


@pytest.fixture
async def browser():
    try:
        program("chromium", "chromium-browser", "google-chrome")
    except MissingProgramError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    async with chromium() as opened:
        yield opened


@pytest.fixture
def endpoint():
    responder = SkeletonResponder(titles=TITLES, text=lambda ask: f"About {ask.title or 'all of it'}.")
    with SimulatedEndpoint(responder, physics=Physics.instant()) as running:
        yield running


@pytest.fixture
def address(endpoint):
    page = playground(endpoint.chat_model(), SotOptions(), name="simulated", local=False, key="KEY")
    with served(page) as root:
        yield f"{root}/KEY/"


async def opened(browser, address, **settings):
    """The page, and what goes wrong in it."""
    page = await browser.new_page(**settings)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    await page.goto(address)
    return page, wrong


async def start(page, question="How do plants grow?"):
    await page.locator("#question").fill(question)
    await page.get_by_role("button", name="Race").click()


async def ends(page):
    await expect(page.locator("#status")).to_have_text("Done.", timeout=SECONDS)


async def points_of(page):
    texts = await page.locator("#skeleton .section").all_inner_texts()
    return [re.sub(r"\s+", " ", text) for text in texts]


async def test_a_race_shows_both_answers_their_figures_and_the_timeline(browser, address, endpoint):
    page, wrong = await opened(browser, address)
    await start(page)
    await ends(page)
    assert await points_of(page) == [f"{n}. {title} done About {title}." for n, title in enumerate(TITLES, 1)]
    await expect(page.locator("#direct .text")).to_have_text("About all of it.")
    await expect(page.locator("#direct .calls")).to_have_text("1")
    await expect(page.locator("#skeleton .calls")).to_have_text("4")
    for way in ("direct", "skeleton"):
        for figure in (".clock", ".first-word"):
            await expect(page.locator(f"#{way} {figure}")).to_have_text(re.compile(r"^\d+\.\d\d s$"))
        await expect(page.locator(f"#{way} .tokens")).to_have_text(re.compile(r"^\d+ / \d+$"))
    await expect(page.locator("#verdict")).to_contain_text("By a skeleton the answer was whole after")
    timeline = page.frame_locator("#timeline")
    await expect(timeline.locator("h1")).to_have_text("How do plants grow?")
    assert wrong == []
    # A field changes an option of the next race.
    await page.locator("#max_points").fill("2")
    await start(page)
    await ends(page)
    assert len(await points_of(page)) == 2
    assert len(endpoint.requests) == 5 + 4


async def test_stopping_closes_every_model_call(browser, address, endpoint):
    with endpoint.hold(4, lambda request: "point" in request.last_user or request.stream, timeout=120) as hold:
        page, _ = await opened(browser, address)
        await start(page)
        await expect(page.locator("#status")).to_have_text("Running ...")
        while not endpoint.requests:
            await page.evaluate("new Promise(requestAnimationFrame)")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#status")).to_have_text("Stopped.")
        while any(request.outcome is None for request in endpoint.requests):
            await page.evaluate("new Promise(requestAnimationFrame)")
        assert {request.outcome for request in endpoint.requests} == {"client_closed"}
        assert not hold.complete


async def test_what_a_question_and_a_model_say_is_text(browser, endpoint):
    hostile_title = "<img src=x onerror='window.hacked = 1'>"
    endpoint.responder = SkeletonResponder(titles=[hostile_title, "Soil", "Sun"], text=lambda ask: HOSTILE)
    page = playground(endpoint.chat_model(), SotOptions(), name="<b>simulated", local=False, question=HOSTILE)
    with served(page) as address:
        page, wrong = await opened(browser, f"{address}/")
        assert await page.locator("#question").input_value() == HOSTILE
        await page.get_by_role("button", name="Race").click()
        await ends(page)
        await expect(page.locator("#direct .text")).to_contain_text("<img src=x onerror=")
        await expect(page.locator("#skeleton .section").first).to_contain_text("<img src=x onerror='window.hacked")
        assert await page.locator("img").count() == 0
        assert await page.evaluate("window.hacked") is None
        assert wrong == []


async def test_two_tabs_know_nothing_of_each_other(browser, address):
    pages = [(await opened(browser, address))[0] for _ in range(2)]
    for number, page in enumerate(pages):
        await page.locator("#max_points").fill(str(number + 2))
        await start(page, f"How do plants grow on {number + 2} fields?")
    for number, page in enumerate(pages):
        await ends(page)
        assert len(await points_of(page)) == number + 2
        heading = page.frame_locator("#timeline").locator("h1")
        await expect(heading).to_have_text(f"How do plants grow on {number + 2} fields?")


async def test_a_narrow_screen_shows_one_way_under_the_other(browser, address):
    page, _ = await opened(browser, address, viewport={"width": 360, "height": 700})
    await start(page, "Wide" * 100)
    await ends(page)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    direct, skeleton = [await page.locator(f"#{way}").bounding_box() for way in ("direct", "skeleton")]
    assert skeleton["y"] >= direct["y"] + direct["height"]


async def test_a_way_that_fails_says_why_and_leaves_the_other_alone(browser, address, endpoint):
    endpoint.responder = SkeletonResponder(titles=TITLES, text=lambda ask: "" if ask.stage == "answer" else "Text.")
    page, _ = await opened(browser, address)
    await start(page)
    await ends(page)
    await expect(page.locator("#direct .reason")).not_to_be_empty()
    assert len(await points_of(page)) == 3


@pytest.fixture
def model():
    return ScriptedChatModel(answer_skeleton_of_thought(TITLES))


@pytest.fixture
def client(model):
    """Asks the page's server without a browser."""
    return TestClient(playground(model, SotOptions(), name="scripted", local=False, key="KEY"))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"no JSON", "there is no question"),
        (b'{"question": " "}', "there is no question"),
        (b'{"question": "Why?", "max_points": -1}', "max_points"),
        (b'{"question": "Why?", "dispatch": ["send"]}', "dispatch"),
        (b'{"question": "' + b"a" * 1_000_000 + b'"}', "too long"),
    ],
    ids=["no JSON", "empty", "too few points", "no choice", "too long"],
)
def test_what_makes_no_race_is_told(client, model, body, reason):
    answer = client.post("/KEY/race", content=body)
    assert answer.status_code == 400
    assert reason in answer.json()["reason"]
    assert model.calls == []


@pytest.mark.parametrize("path", ["/", "/race", "/KEYS/", "/KEY/other"])
def test_no_path_but_that_with_the_key_is_there(client, path):
    assert client.get(path).status_code == 404
    assert client.post(path, json={"question": "Why?"}).status_code == 404


def test_the_page_fetches_nothing_from_elsewhere(client):
    answer = client.get("/KEY/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert set(re.findall(r"https?://[^\s\"'<]+", answer.text)) == set()


def test_the_command_serves_the_page_until_it_is_ended(endpoint):
    command = [
        sys.executable,
        "-m",
        "sot_graph",
        "play",
        "--base-url",
        endpoint.base_url,
        "-m",
        "simulated",
        "--port",
        "0",
    ]
    environment = {**os.environ, "OPENAI_API_KEY": "any", "LANGSMITH_TRACING": "false"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as serving:
        found = next(
            match for line in serving.stderr if (match := re.search(r"http://127\.0\.0\.1:\d+/\S{20,}/", line))
        )
        assert "simulated" in httpx.get(found[0]).text
        serving.terminate()
        serving.communicate()
    assert serving.returncode == 143


def test_a_port_that_there_is_not_is_bad_usage():
    done = CliRunner().invoke(app, ["play", "--port", "70000"])
    assert done.exit_code == 2
    assert "less than or equal to 65535" in " ".join(done.stderr.split())


def test_headers_without_end_are_refused():
    server = server_of(
        playground(ScriptedChatModel(lambda messages: "No."), SotOptions(), name="m", local=False, key="KEY")
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        with socket.create_connection(listener.getsockname()) as stranger, suppress(ConnectionError):
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            for _ in range(64):
                stranger.sendall(b"x" * 2**16)
            assert b" 400 " in stranger.recv(64)
        server.should_exit = True
        thread.join()
