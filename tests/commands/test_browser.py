"""The pages in a real browser: no complaint in its console, and a click compares anew."""

import re
import shutil
import subprocess

import pytest

from data_tools.clouds.io import write_ply
from tests.commands.run import run
from tests.rooms import box_room, put_rooms

FLAGS = ["--headless", "--no-sandbox", "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader"]
FLAGS += ["--enable-unsafe-swiftshader", "--enable-logging=stderr", "--virtual-time-budget=6000", "--dump-dom"]
CLICK = """<script>
HTMLCanvasElement.prototype.setPointerCapture = () => {};
setTimeout(() => {
  const canvas = document.querySelector("canvas"), box = canvas.getBoundingClientRect();
  for (let i = 3; i < 18; i++) for (let j = 3; j < 18; j++) {
    const clientX = box.left + box.width * i / 20, clientY = box.top + box.height * j / 20;
    const at = { pointerId: 1, bubbles: true, clientX, clientY };
    canvas.dispatchEvent(new PointerEvent("pointerdown", at));
    canvas.dispatchEvent(new PointerEvent("pointerup", at));
    if (document.querySelector(".pv").dataset.picked) return;
  }
}, 1500);
</script></body>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium on the PATH"),
]


def visit(path, profile):
    done = subprocess.run(
        ["chromium", *FLAGS, f"--user-data-dir={profile}", path.as_uri()], capture_output=True, text=True, timeout=120
    )
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "GPU stall" not in line]
    assert complaints == []
    assert "pv-canvas" in done.stdout
    return done.stdout


def test_every_page_runs(tmp_path):
    room, out = write_ply(tmp_path / "room.ply", box_room()), tmp_path / "out"
    data = put_rooms(tmp_path / "data", {"train": 2, "val": 1})
    options = ("--random", "tiny", "--size", "80x60", "--out", out, "--view", "--no-open")
    assert run("pca", room, *options) == 0
    assert run("similarity", room, *options) == 0
    assert run("probe", "--data", data, *options, "--shares", "100", "--save-head", tmp_path / "head.pth") == 0
    assert run("segment", room, *options, "--head", tmp_path / "head.pth") == 0
    assert run("encode", room, *options) == 0
    pages = sorted(out.glob("*.html"))
    assert len(pages) == 5
    for page in pages:
        assert 'aria-pressed="true"' in visit(page, tmp_path / "profile")


def test_a_click_compares_with_the_point_clicked(tmp_path):
    out = tmp_path / "out"
    room = write_ply(tmp_path / "room.ply", box_room())
    assert run("similarity", room, "--random", "tiny", "--out", out, "--view", "--no-open", "--size", "80x60") == 0
    page = out / "room_similarity.html"
    page.write_text(page.read_text().replace("</body>", CLICK))
    dom = visit(page, tmp_path / "profile")
    assert re.search(r'data-picked="\d+"', dom)
    assert re.search(r"similarity 1\.000", dom)  # a point is as alike to itself as can be
