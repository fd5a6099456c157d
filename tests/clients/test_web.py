"""The page of examples/web in real headless Chromium, and the AI SDK's adapter in Node, on the real server."""

import json
import os
import subprocess

import pytest
from playwright.async_api import expect

from tests.clients.conftest import ANSWER, OTHER_ORDER, QUESTION, TITLES, answer_of
from tests.support.clients import (
    WEB,
    ChatPage,
    MissingProgramError,
    chromium,
    install_packages,
    page_served,
    program,
)


@pytest.fixture(scope="session")
def packages():
    """The example's packages, installed beside it."""
    try:
        program("chromium", "chromium-browser", "google-chrome")
        install_packages()
    except MissingProgramError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def page_address(packages):
    """The page, built and served on loopback."""
    with page_served() as address:
        yield address


@pytest.fixture(params=["react", "sdk"])
async def open_chat(request, page_address, server):
    """Opens the page for a graph, with either hook."""
    async with chromium() as browser:

        async def open_page(graph):
            chat = ChatPage(await browser.new_page())
            await chat.open(page_address, server.url, graph, request.param)
            return chat

        yield open_page


@pytest.mark.parametrize("graph", ["sot_graph", "agent"], ids=["at the root", "as a node"])
async def test_the_page_shows_the_answer_in_one_bubble(open_chat, showing, graph):
    chat = await open_chat(graph)
    with showing() as shown:
        chat.sees = shown.see
        await chat.ask(QUESTION)
        await chat.ends_with(ANSWER)
    shown.is_live()


async def test_asked_again_another_answer_takes_its_place(open_chat, showing):
    chat = await open_chat("agent")
    with showing() as shown:
        chat.sees = shown.see
        await chat.ask(QUESTION)
        await chat.ends_with(ANSWER)
    text = "Once more about {title}."
    another = answer_of(TITLES, text)
    with showing(text) as again:
        chat.sees = again.see
        await chat.press("Ask again")
        await chat.ends_with(another)
    while again.history and again.history[0] == [ANSWER]:
        again.history.pop(0)
    again.is_live(another)


async def test_asked_again_at_the_root_the_answer_is_there_once(open_chat, showing):
    # A page forks before the step that wrote the message: that is the join, which has all its points.
    chat = await open_chat("sot_graph")
    with showing() as shown:
        chat.sees = shown.see
        await chat.ask(QUESTION)
        await chat.ends_with(ANSWER)
        await chat.press("Ask again")
        await chat.ends_with(ANSWER)


@pytest.mark.parametrize("reviewer", ["approves", "edits"])
async def test_a_skeleton_is_reviewed_in_the_page(open_chat, showing, reviewer):
    chat = await open_chat("sot_graph_with_review")
    with showing() as before:
        chat.sees = before.see
        await chat.ask(QUESTION)
        await expect(chat.page.locator("textarea")).to_have_value("\n".join(TITLES))
        assert not any(before.history)
    titles = TITLES
    if reviewer == "edits":
        titles = OTHER_ORDER
        await chat.page.locator("textarea").fill("\n".join(titles))
    with showing() as shown:
        chat.sees = shown.see
        await chat.press("Write it")
        await chat.ends_with(answer_of(titles))
    shown.is_live(answer_of(titles))
    await expect(chat.page.locator("textarea")).to_have_count(0)


@pytest.mark.parametrize("graph", ["sot_graph", "agent"], ids=["at the root", "as a node"])
def test_the_ai_sdk_has_the_answer_as_one_text(packages, server, showing, graph):
    command = [program("node"), WEB / "ai_sdk.mjs", QUESTION, graph, server.url]
    with showing() as shown, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
        for line in node.stdout:
            message = json.loads(line)
            if message["role"] == "assistant":
                shown.see([part["text"] for part in message["parts"] if part["type"] == "text"])
    shown.is_live()
    assert node.returncode == 0
