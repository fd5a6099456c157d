"""The page of a run in a real browser: drawn as meant, nothing fetched, nothing run, whatever the text."""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import zlib
from dataclasses import dataclass

import pytest

from sot_graph.report import result_timeline
from tests.support.loopback import refusing

SECONDS = 150
"""For one start of the browser: it takes one or two, and hangs only if something is broken."""

REPORT = """<pre id="report"></pre><script>
const box = found => { const {left, right, top, bottom, width} = found.getBoundingClientRect();
                       return {left, right, top, bottom, width}; };
const all = (selector, read) => [...document.querySelectorAll(selector)].map(read);
document.getElementById("report").textContent = JSON.stringify({
  ground: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.querySelector("h1")).color,
  hatch: getComputedStyle(document.querySelector(".bar.waiting")).fill,
  across: [document.documentElement.scrollWidth, document.documentElement.clientWidth],
  picture: box(document.querySelector(".timeline")),
  writing: all(".timeline .bar.write", box).slice(0, -1),
  notes: all(".note", box),
  alerts: window.alerts || 0,
  ran: window.ran || 0,
});
</script>"""
"""Put into a copy of a page without its policy, this tells in the page what the browser made of it."""


def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        message = f"there is no Chromium here (looked for {', '.join(names)}): apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@dataclass
class Visit:
    """What came of opening a page."""

    dom: str
    console: list[str]

    @property
    def report(self):
        return json.loads(re.search(r'<pre id="report">(.*?)</pre>', self.dom, re.DOTALL)[1])


class Chromium:
    """Opens pages, each in a browser of its own with an empty profile."""

    def __init__(self, folder):
        self._program = browser()
        self._folder = folder
        self._visits = 0

    def _run(self, page, *flags):
        self._visits += 1
        path = self._folder / f"page{self._visits}.html"
        path.write_text(page, encoding="utf-8")
        command = [
            self._program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            f"--user-data-dir={self._folder / f'profile{self._visits}'}",
            *flags,
            path.as_uri(),
        ]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
        ) as running:
            try:
                out, log = running.communicate(timeout=SECONDS)
            except BaseException:
                os.killpg(running.pid, signal.SIGKILL)
                raise
        assert running.returncode == 0, log
        return out, [line for line in log.splitlines() if "CONSOLE" in line]

    def open(self, page, *flags):
        return Visit(*self._run(page, "--dump-dom", *flags))

    def photograph(self, page, *flags):
        path = self._folder / "picture.png"
        path.unlink(missing_ok=True)
        self._run(page, f"--screenshot={path}", *flags)
        return path.read_bytes()


@pytest.fixture
def chromium(tmp_path):
    return Chromium(tmp_path)


@pytest.fixture
def beacon():
    """An address that a page could fetch from, and what was fetched."""
    with refusing(404) as server:
        yield server


def a_result(titles, **more):
    """Point i waits from 1 s to 1.5 s, and is written for i seconds; the second fails, the third comes too late."""
    statuses = {2: "failed", 3: "timed_out"}
    points = [
        {"index": index, "title": title, "depends_on": [], "status": statuses.get(index, "ok")}
        for index, title in enumerate(titles, start=1)
    ]
    end = 1.5 + len(points)
    return {
        "skeleton": points,
        "expansions": [
            {**point, "text": "Some text.", "error": None if point["status"] == "ok" else point["title"]}
            for point in points
        ],
        "answer": "\n\n".join(f"**{point['index']}. {point['title']}**\n\nSome text." for point in points),
        "route": "skeleton",
        "route_reason": "a skeleton could be had",
        "timings": {
            "skeleton": {"start": 0.0, "end": 1.0},
            "points": [
                {"index": point["index"], "start": 1.0, "first_token": 1.5, "end": 1.5 + point["index"]}
                for point in points
            ],
            "join": {"start": end, "end": end},
            "total": end,
        },
        "messages": [{"role": "user", "content": "How can I sleep better?"}],
        **more,
    }


def hostile_result(address):
    beacon = f"{address}/title"
    texts = [
        f"<script>window.ran = 1; fetch('{beacon}'); alert(1)</script>",
        f"</title></style></svg></main><img src='{beacon}' onerror='window.ran = 1; alert(2)'>",
        f'" onload="alert(3)" style="background:url({beacon})',
        f"]]><iframe src='{beacon}'></iframe><style>@import '{beacon}'; * {{ display: none }}</style>",
        f"<meta http-equiv=refresh content='0;url={beacon}'><link rel=stylesheet href='{beacon}'>",
        "\u202e\u2066 reversed \x00 \ud800 <!--",
        "very long title " * 400,
    ]
    return a_result(texts, route_reason=texts[0], messages=[{"role": "user", "content": "\n".join(texts)}])


def reporting(page):
    """A copy that tells what the browser made of it, with no policy left to save it."""
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert without_policy != page
    counting = "<script>window.alert = () => { window.alerts = (window.alerts || 0) + 1 }</script>"
    return without_policy.replace("<head>", f"<head>{counting}").replace("</body>", f"{REPORT}</body>")


TITLES = ["Keep a rhythm", "Dim the lights", "Leave the phone outside", "Move during the day"]


def test_the_page_is_drawn_without_a_word_on_the_console(chromium):
    visit = chromium.open(result_timeline(a_result(TITLES)))
    assert visit.console == []
    assert visit.dom.count('<svg xmlns="http://www.w3.org/2000/svg" class="timeline"') == 2
    for title in TITLES:
        assert visit.dom.count(title) >= 4  # picture, its tooltip, table, answer
    assert "<strong>1. Keep a rhythm</strong>" in visit.dom


def test_bars_are_as_long_in_the_browser_as_in_the_figures(chromium):
    report = chromium.open(reporting(result_timeline(a_result(TITLES)))).report
    first, last = report["writing"]
    assert last["width"] / first["width"] == pytest.approx(4, rel=0.01)
    assert first["left"] == pytest.approx(last["left"], abs=0.5)
    assert first["top"] < last["top"]
    assert "waiting" in report["hatch"]
    assert all(note["right"] <= report["picture"]["right"] + 0.5 for note in report["notes"])


def test_hostile_text_is_shown_and_neither_run_nor_fetched_even_without_the_policy(chromium, beacon):
    address, fetched = beacon
    visit = chromium.open(reporting(result_timeline(hostile_result(address))))
    assert (visit.report["ran"], visit.report["alerts"]) == (0, 0)
    assert fetched == []
    assert visit.console == []
    assert visit.dom.count("&lt;script&gt;window.ran = 1;") >= 4
    assert not re.search(r"<(img|iframe|link)\b", visit.dom)


def test_hostile_text_breaks_no_policy(chromium, beacon):
    address, fetched = beacon
    visit = chromium.open(result_timeline(hostile_result(address)))
    assert visit.console == []
    assert fetched == []


def test_the_policy_would_stop_what_got_in_and_the_console_would_tell(chromium, beacon):
    address, fetched = beacon
    smuggled = f"<script>document.title = 'ran'</script><img src='{address}/image'>"
    page = result_timeline(a_result(TITLES)).replace("</main>", f"{smuggled}</main>")
    visit = chromium.open(page)
    assert "<title>ran</title>" not in visit.dom
    assert fetched == []
    assert sum("Content Security Policy" in line for line in visit.console) == 2


@pytest.mark.parametrize(("scheme", "dark"), [(0, True), (1, False)], ids=["dark", "light"])
def test_the_page_is_dark_where_the_reader_wants_it_dark(chromium, scheme, dark):
    page = reporting(result_timeline(a_result(TITLES)))
    report = chromium.open(page, f"--blink-settings=preferredColorScheme={scheme}").report
    ground, ink = (sum(map(int, re.findall(r"\d+", report[key])[:3])) for key in ("ground", "ink"))
    assert (ground < ink) == dark
    assert abs(ground - ink) > 450


@pytest.mark.parametrize("width", [320, 1600])
def test_nothing_but_the_table_is_wider_than_the_screen(chromium, beacon, width):
    page = reporting(result_timeline(hostile_result(beacon[0])))
    # A window can't be as narrow as a phone; a frame can.
    quoted = page.replace("&", "&amp;").replace('"', "&quot;")
    framed = (
        f'<!doctype html><iframe width="{width}" height="900" srcdoc="{quoted}"></iframe><pre id="report"></pre>'
        "<script>"
        "onload = () => { const inner = document.querySelector('iframe').contentDocument;"
        "document.getElementById('report').textContent = inner.getElementById('report').textContent }</script>"
    )
    report = chromium.open(framed, "--window-size=1700,1000").report
    needed, there = report["across"]
    assert there == width
    assert needed <= there
    assert report["picture"]["right"] <= there


def pixels_of(png):
    """Width, height and the bytes of a PNG's rows, as the format's filters leave them."""
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    position, data = 8, b""
    while position < len(png):
        length, kind = struct.unpack(">I4s", png[position : position + 8])
        if kind == b"IDAT":
            data += png[position + 8 : position + 8 + length]
        position += length + 12
    return width, height, zlib.decompress(data)


def test_the_page_can_be_photographed_and_is_not_blank(chromium):
    flags = ("--window-size=1100,900",)
    drawn, blank = (
        pixels_of(chromium.photograph(page, *flags))
        for page in (result_timeline(a_result(TITLES)), "<!doctype html><title>blank</title>")
    )
    assert drawn[:2] == blank[:2] == (1100, 900)
    assert len(set(blank[2])) < 10
    assert len(set(drawn[2])) > 150
