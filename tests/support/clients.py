"""Real clients and what they need, shared by tests/clients and benchmarks/clients.py."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.async_api import Browser, Page, async_playwright, expect

__all__ = ["WEB", "ChatPage", "MissingProgramError", "chromium", "install_packages", "page_served", "program", "served"]

WEB = Path(__file__).parents[2] / "examples" / "web"
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_WATCH = """
new MutationObserver(() => sees([...document.querySelectorAll(".ai")].map(each => each.textContent)))
  .observe(document, {subtree: true, childList: true, characterData: true});
"""
"""Put into the page, this tells what its bubbles show at each change."""
_SECONDS = 60_000


class MissingProgramError(RuntimeError):
    """Something that is not Python's isn't here."""


def program(*names: str) -> str:
    """The first of these that is installed.

    Raises:
        MissingProgramError: None is.
    """
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        message = f"There is no {names[0]} here: apt-get install {names[0]}"
        raise MissingProgramError(message)
    return found


def install_packages() -> None:
    """Have the packages of examples/web beside it.

    Raises:
        MissingProgramError: There is no npm, or it reaches no packages.
    """
    npm, installed = program("npm"), WEB / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (WEB / "package-lock.json").stat().st_mtime:
        return
    ran = subprocess.run([npm, "ci", "--ignore-scripts"], cwd=WEB, capture_output=True, text=True, check=False)
    if ran.returncode:
        message = f"npm could not install the packages of examples/web: {ran.stderr[-500:]}"
        raise MissingProgramError(message)


@contextmanager
def page_served() -> Iterator[str]:
    """The page of examples/web, built and served as its readers do it; gives its address."""
    start = [program("npm"), "start", "--", "--serve=127.0.0.1:0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(start, cwd=WEB, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, text=True) as serving:
        assert serving.stderr
        address = next((found[0] for line in serving.stderr if (found := re.search(r"http://\S+", line))), "")
        assert address, "esbuild serves no page"
        yield address
        serving.communicate()  # it ends as its input closes


@contextmanager
def served(app: Any) -> Iterator[str]:
    """An ASGI application on loopback; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A headless Chromium."""
    executable = program("chromium", "chromium-browser", "google-chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        yield browser
        await browser.close()


class ChatPage:
    """The page of examples/web, as a person uses it.

    Args:
        page: A new one.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.sees: Callable[[list[str]], Any] = len
        """Told what the bubbles of answers show, at each change."""

    async def open(self, address: str, api: str, graph: str, hook: str) -> None:
        """Open it for a graph of a server, with one of the hooks: `"react"` or `"sdk"`."""
        await self.page.expose_binding("sees", lambda _, texts: self.sees(texts))
        await self.page.add_init_script(_WATCH)
        await self.page.goto(f"{address}?api={api}&graph={graph}&hook={hook}")

    async def ask(self, question: str) -> None:
        """Type a question and send it."""
        await self.page.get_by_placeholder("Ask").fill(question)
        await self.press("Ask")

    async def press(self, button: str) -> None:
        """Press a button."""
        await self.page.get_by_role("button", name=button, exact=True).click()

    async def ends_with(self, answer: str) -> None:
        """Wait until this is the only answer, and no run is going on."""
        await expect(self.page.locator(".ai")).to_have_text([answer], timeout=_SECONDS)
        await expect(self.page.get_by_role("button", name="Ask", exact=True)).to_be_enabled(timeout=_SECONDS)
        await expect(self.page.locator(".ai")).to_have_text([answer])
