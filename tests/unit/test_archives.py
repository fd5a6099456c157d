"""What a user of the archives gets: all that building and developing needs, and a description without dead links."""

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_the_source_archive_holds_what_developing_needs(archives):
    [path] = archives.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = [
        "uv.lock",
        "pyproject.toml",
        "Makefile",
        ".ci/run",
        "SECURITY.md",
        "LICENSE",
        "README.md",
        "langgraph.json",
    ]
    assert {*wanted, "sot_graph/py.typed", "docs/streaming.md", "tests/conftest.py"} <= names


def test_what_an_index_shows_has_no_link_into_the_archive(archives):
    [path] = archives.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        shown = email.message_from_bytes(archive.read(name)).get_payload()
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub("```.*?```", "", shown, flags=re.DOTALL))
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert "`docs/streaming.md`" in shown
    assert "how it works (`docs/how-it-works.md`)" in shown
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.findall("```.*?```", readme, re.DOTALL)
    assert code == re.findall("```.*?```", shown, re.DOTALL)  # and nothing else is changed
