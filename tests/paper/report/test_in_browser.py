"""The report in a real browser: no error, all figures, no sideways scrolling on a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from corridor import cli
from corridor.paper import figures
from corridor.paper.results import Plan

KEPT = Path(__file__).parents[3] / "results" / "laptop"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium; apt-get install chromium"),
]
# Messages of the browser on the speed of canvases are not errors.
ADVICE = "Canvas2D: Multiple readback|GL Driver Message|GPU stall"
# Opens all that can be opened, waits, and sends what is there to the outer page. It stands in the
# page itself, since a page read from a file may not look into another.
PROBE = """<script>
window.addEventListener("load", function () {
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  setTimeout(function () {
    const wide = [...document.querySelectorAll("main > *, section > *, .scroll")].filter(e =>
      e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.tagName + e.className);
    const cut = [...document.querySelectorAll(".claims td")].filter(e =>
      e.getBoundingClientRect().right > window.innerWidth).length;
    window.parent.postMessage(JSON.stringify({
      width: window.innerWidth,
      scrolls: document.documentElement.scrollWidth > window.innerWidth,
      wide: wide, cut: cut,
      plots: [...document.querySelectorAll(".panels > div")].filter(e =>
        e.querySelector(".main-svg .trace, .main-svg .scatterlayer path")).length,
      panels: document.querySelectorAll(".panels > div").length,
      turning: document.querySelectorAll(".turn canvas").length,
      images: [...document.images].map(i => i.complete && i.naturalWidth > 0),
      sections: document.querySelectorAll("section").length,
    }), "*");
  }, 4000);
});</script>"""
FRAME = """<!DOCTYPE html><title>waiting</title><body style="margin:0"><script>
window.addEventListener("message", e => { document.title = "shown " + e.data; });
</script><iframe src="page.html" style="border:0;width:{width}px;height:900px"></iframe></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The report of kept results, and figure 1, whose surface turns."""
    out = tmp_path_factory.mktemp("report")
    assert cli.main(["redraw", str(KEPT), "--out", str(out)]) == 0
    first = figures.figure(1)
    first.draw(first.compute(Plan(out)))
    assert cli.main(["report", str(out)]) == 0
    return out / "report.html"


def look(folder: Path, html: str, width: int) -> tuple[dict, list[str]]:
    """What a page of so many pixels shows, and what it wrote to the console."""
    assert BROWSER is not None
    (folder / "page.html").write_text(html.replace("<head>", "<head>" + PROBE, 1))
    (folder / "frame.html").write_text(FRAME.replace("{width}", str(width)))
    made = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader",
         "--enable-logging=stderr", "--v=0", f"--window-size={max(width, 500)},900",
         "--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom",
         str(folder / "frame.html")],
        capture_output=True, text=True, timeout=140, check=True,
    )  # fmt: skip
    title = re.search("<title>shown (.*?)</title>", made.stdout)
    assert title is not None, made.stderr[-2000:]
    console = [line for line in made.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(title[1]), [line for line in console if not re.search(ADVICE, line)]


@pytest.mark.parametrize("width", [1200, 390])
def test_it_loads_without_errors_and_fits(page: Path, tmp_path: Path, width: int):
    shown, console = look(tmp_path, page.read_text(), width)
    assert console == []
    assert shown["width"] == width
    assert not shown["scrolls"]
    assert shown["wide"] == []
    assert shown["cut"] == 0
    assert shown["sections"] == len(figures.FIGURES) == len(shown["images"])
    assert all(shown["images"])
    assert shown["plots"] == shown["panels"] >= 20
    assert shown["turning"] >= 1


def test_errors_in_the_page_would_be_seen(tmp_path: Path):
    html = "<html><head><title>a</title></head><body><script>nothing.there()</script></body></html>"
    _, console = look(tmp_path, html, 500)
    assert any("ReferenceError" in line for line in console)
