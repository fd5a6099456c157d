"""The command in a real terminal: tmux draws, the test looks at the screen."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from sot_graph.testing import Physics, SkeletonResponder
from tests.support.watched_endpoint import WatchedEndpoint

TMUX = shutil.which("tmux")
if TMUX is None and os.environ.get("CI"):
    pytest.fail("CI has to install tmux: .ci/run does", pytrace=False)
pytestmark = pytest.mark.skipif(TMUX is None, reason="tmux is not installed: apt-get install tmux")

PATIENCE_SECONDS = 60


class Terminal:
    """One command in one tmux window of its own server."""

    def __init__(self, width, height, command, environment=()):
        self.socket = f"sot-{uuid.uuid4().hex[:12]}"
        settings = " ".join(f"{name}={value}" for name, value in environment)
        self.tmux("-f", os.devnull, "new-session", "-d", "-x", str(width), "-y", str(height), "sh")
        self.type(f"clear; env -u COLUMNS -u LINES {settings} {command}; echo status=$?")

    def tmux(self, *arguments):
        done = subprocess.run([TMUX, "-L", self.socket, *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    def type(self, text):
        self.tmux("send-keys", text, "Enter")

    def press(self, key):
        self.tmux("send-keys", key)

    def cursor_is_shown(self):
        return self.tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def terminate(self):
        """Send SIGTERM to the command, the only child of the window's shell."""
        shell = self.tmux("display-message", "-p", "#{pane_pid}").strip()
        command = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0]
        os.kill(int(command), signal.SIGTERM)

    def screen(self, *options):
        return self.tmux("capture-pane", "-p", *options)

    def wait_for(self, *texts, options=()):
        """Look until all of these stand on the screen."""
        last = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < last:
            screen = self.screen(*options)
            if all(text in screen for text in texts):
                return screen
            time.sleep(0.05)
        pytest.fail(f"{texts} never stood on the screen together:\n{screen}")

    def close(self):
        self.tmux("kill-server")


@pytest.fixture
def endpoint():
    with WatchedEndpoint(SkeletonResponder(points=4, words_per_point=20), physics=Physics.instant()) as running:
        yield running


@pytest.fixture
def terminal(endpoint):
    opened = []

    def open_one(width=120, height=40, arguments="", environment=()):
        command = f"{sys.executable} -m sot_graph ask 'Why?' --model m --base-url {endpoint.base_url} {arguments}"
        opened.append(Terminal(width, height, command, environment))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def later_points(request):
    return "<point>" in request.last_user and "<point>1. " not in request.last_user


@pytest.mark.parametrize("width", [120, 60, 30])
def test_points_fill_in_side_by_side_and_the_answer_stays(endpoint, terminal, width):
    with endpoint.hold(4, later_points, timeout=PATIENCE_SECONDS) as held:
        window = terminal(width=width)
        screen = window.wait_for("✓ 1. ", "✎ 2. ", "✎ 4. ", "1 of 4 points")
        assert all(len(line) <= width for line in screen.splitlines())
        held.release()
    window.wait_for("Answer", "4 of 4 points", "status=0", options=("-S", "-200"))
    assert "✎" not in window.screen()


def test_no_color_means_no_colour_and_the_rest_stays(endpoint, terminal):
    with endpoint.hold(4, later_points, timeout=PATIENCE_SECONDS) as held:
        window = terminal(environment=[("NO_COLOR", "1")])
        window.wait_for("✓ 1. ", "✎ 2. ")
        coloured = window.screen("-e")
        held.release()
    assert not re.search(r"\x1b\[3[0-7]m", coloured)  # no foreground colours
    window.wait_for("status=0")


def test_with_colour_states_have_colours(endpoint, terminal):
    with endpoint.hold(4, later_points, timeout=PATIENCE_SECONDS) as held:
        window = terminal()
        window.wait_for("✓ 1. ", "✎ 2. ")
        assert "\x1b[32m" in window.screen("-e")  # green: done
        held.release()
    window.wait_for("status=0")


def test_no_stream_shows_the_skeleton_and_then_the_answer_without_a_board(endpoint, terminal):
    with endpoint.hold(4, later_points, timeout=PATIENCE_SECONDS) as held:
        window = terminal(arguments="--no-stream")
        screen = window.wait_for("Skeleton", "4 ")
        assert "✎" not in screen
        assert "Answer" not in screen
        held.release()
    window.wait_for("Answer", "status=0", options=("-S", "-200"))


def test_ctrl_c_ends_the_command_with_130_and_closes_every_call(endpoint, terminal):
    with endpoint.hold(5, lambda request: "<point>" in request.last_user, timeout=PATIENCE_SECONDS):
        window = terminal()
        window.wait_for("✎ 4. ")
        endpoint.wait_for(lambda log: len(log) == 5, timeout=PATIENCE_SECONDS)
        window.press("C-c")
        window.wait_for("Interrupted.", "status=130", options=("-S", "-200"))
        endpoint.wait_for(lambda log: all(logged.outcome for logged in log), timeout=PATIENCE_SECONDS)
    assert [logged.outcome for logged in endpoint.requests] == ["ok", *["client_closed"] * 4]


def test_sigterm_ends_the_command_as_ctrl_c_does_with_143_and_the_cursor_back(endpoint, terminal):
    with endpoint.hold(5, lambda request: "<point>" in request.last_user, timeout=PATIENCE_SECONDS):
        window = terminal()
        window.wait_for("✎ 4. ")
        endpoint.wait_for(lambda log: len(log) == 5, timeout=PATIENCE_SECONDS)
        assert window.cursor_is_shown() is False
        window.terminate()
        window.wait_for("Terminated.", "status=143", options=("-S", "-200"))
        endpoint.wait_for(lambda log: all(logged.outcome for logged in log), timeout=PATIENCE_SECONDS)
    assert window.cursor_is_shown()


def test_a_skeleton_is_reviewed_in_the_terminal(terminal):
    window = terminal(arguments="--review")
    window.wait_for("e 2 New title: rename", "4. ", ">")
    window.type("e 2 A better title")
    window.wait_for("2. A better title")
    window.type("d 1")
    window.wait_for("1. A better title")
    window.type("")
    screen = window.wait_for("Answer", "status=0", options=("-S", "-200"))
    assert "3 of 3 points" in screen
