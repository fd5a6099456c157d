"""Chainlit, in an environment of its own, read over the socket that its page reads."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import ANSWER, QUESTION
from tests.support import chainlit_chat

ROOT = Path(__file__).parents[2]
WITH = ["chainlit>=2.12,<3", "python-socketio[asyncio_client]"]


@pytest.fixture
def chat(endpoint, tmp_path):
    """The lines of a chat; the environment is made by uv, which keeps it for the next time."""
    uv = shutil.which("uv") or shutil.which(ROOT / ".uv" / "bin" / "uv")
    if uv is None:
        pytest.skip("there is no uv here, which makes Chainlit's environment")
    command = [uv, "run", "--no-project", "--quiet", "--python", sys.executable, "--with-editable", ROOT]
    for name in WITH:
        command += ["--with", name]
    settings = {chainlit_chat.QUESTION: QUESTION, chainlit_chat.BASE_URL: endpoint.base_url}
    script = chainlit_chat.__file__
    with subprocess.Popen(
        [*command, "python", script], cwd=tmp_path, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True
    ) as running:
        yield map(json.loads, running.stdout)
        running.stdout.close()
    assert running.returncode == 0


def test_a_chat_shows_one_bubble_that_grows(chat, showing):
    with showing() as shown:
        for line in chat:
            if isinstance(line, list):
                shown.add(*line)
            else:
                assert (line["final"], {line["id"]}) == (ANSWER, shown.ids)
    shown.is_live()
