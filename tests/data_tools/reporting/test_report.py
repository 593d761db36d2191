"""The report over whole, partial and hostile folders: links, counts, escaping, repeats, kills."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from data_tools import report as script
from data_tools.chain.journal import Journal, Row
from data_tools.reporting import build as build_module
from data_tools.reporting.build import build
from data_tools.reporting.measures import funnel, generic_reason, reasons
from data_tools.reporting.model import ReportError, ReportSettings
from data_tools.reporting.scan import scan
from data_tools.reporting.yields import yield_line, yields, yields_part
from tests.data_tools.reporting.report_tree import HOSTILE, put_record, put_scene, put_whole

SETTINGS = ReportSettings(points=500, extremes=2, title="demo")


class Links(HTMLParser):
    """Addresses and elements of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.tags, self.handlers = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def gallery(folder):
    rows = []
    for path in sorted((folder / "data").glob("scenes-*.js")):
        rows += json.loads(re.fullmatch(r"RoomTours\.chunk\((.*)\);\n", path.read_text("utf-8"), re.S).group(1))
    return rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = put_whole(tmp_path_factory.mktemp("whole"))
    counts = build(scan(out), out / "report", SETTINGS)
    return out, counts


def test_links_lead_somewhere_and_nothing_is_fetched_from_outside(whole):
    out, counts = whole
    pages = sorted((out / "report").rglob("*.html"))
    assert len(pages) == 1 + counts["pages"] == 7
    for path in pages:
        for address in Links(path.read_text("utf-8")).links:
            if address.startswith(("data:", "https://example.org/")):  # the video's own address is a link, no load
                continue
            assert "://" not in address
            assert (path.parent / unquote(address)).is_file(), address


def test_every_gallery_row_has_its_files(whole):
    out, _ = whole
    rows = gallery(out / "report")
    assert len(rows) == 6
    for place, name, *_, thumb, has_page in rows:
        assert not thumb or (out / "report" / "thumbs" / place / thumb).is_file()
        assert has_page
        assert (out / "report" / "scenes" / place / f"{name}.html").is_file()


def test_text_from_outside_stays_text(whole):
    out, _ = whole
    for path in (out / "report").rglob("*.html"):
        page = Links(path.read_text("utf-8"))
        assert page.handlers == [], path
        assert "<img src=1" not in path.read_text("utf-8")
    for path in (out / "report" / "data").iterdir():
        assert "<" not in path.read_text("utf-8")
    assert any(row[1] == HOSTILE for row in gallery(out / "report"))


def test_counts_by_stage_and_reason(whole):
    steps = {step.stage: step.counts for step in funnel(scan(whole[0]))}
    assert steps["collect"] == {"done": 2, "rejected": 0, "failed": 1, "waiting": 0}
    assert steps["segment"] == {"done": 1, "rejected": 1, "failed": 0, "waiting": 0}
    assert steps["reconstruct"] == {"done": 3, "rejected": 0, "failed": 1, "waiting": 1}
    assert steps["postprocess"] == {"done": 2, "rejected": 1, "failed": 0, "waiting": 0}
    assert steps["package"]["failed"] == 1
    found = {(row.stage, row.status, row.reason): row.count for row in reasons(scan(whole[0]))}
    assert found["postprocess", "rejected", "coverage N is under N"] == 1
    assert found["package", "failed", "holds no point"] == 1


def test_the_yield_by_set_beside_the_papers(tmp_path):
    out = put_whole(tmp_path)
    journal = Journal(out / "_work/log", "all")
    journal.put_origin("tour", "RealEstate10K")
    journal.save()
    first, others = yields(scan(out))
    assert (first.name, first.videos, first.used, first.scenes) == ("RealEstate10K", 1, 1, 2)
    assert (first.hours, first.kept) == (pytest.approx(60 / 3600), pytest.approx(2 * 8 / 3600))
    assert first.reasons["postprocess", "coverage N is under N"] == 1
    assert (others.name, others.scenes) == ("others", 0)
    assert sum(others.reasons.values()) == 2  # one rejected by segment, one that collect could not fetch
    assert yield_line([first, others]).startswith(f"yield: 2 scenes of {1 + others.videos} videos (")
    page = yields_part([first, others])
    assert "49,219 scenes from 3,462 videos and RealEstate10K, YouTube House Tours, HouseTours" in page
    assert "1 postprocess: coverage N is under N" in page


def test_scores_states_and_facts_of_the_rows(whole):
    rows = {row.name: row for row in scan(whole[0]).scenes}
    assert (rows["tour_000"].score, rows["tour_000"].status, rows["tour_000"].label) == (0.91, "done", "bedroom")
    assert rows["tour_000"].spacing == 0.0133
    assert rows["tour_002"].status == "rejected"
    assert rows["tour_003"].status == "failed"
    assert rows["tour_004"].status == "waiting"


def test_a_page_has_its_cloud_cameras_frames_timeline_and_factors(whole):
    page = (whole[0] / "report/scenes/train/tour_000.html").read_text("utf-8")
    spec = json.loads(re.search(r'class="pv-data"[^>]*>(.*?)</script>', page, re.S).group(1))
    assert [layer["name"] for layer in spec["layers"]] == ["colour", "height", "normal"]
    assert spec["clouds"][0]["count"] == 500
    assert len(spec["lines"]) == (3 * 8 + 2) * 6
    assert spec["preview"].startswith("data:image/jpeg")
    for wanted in ("<h2>Frames</h2>", "<h2>Timeline of the video</h2>", "scale.factor", "1.25", "0.91"):
        assert wanted in page


def test_a_second_run_changes_no_byte_and_writes_no_page(whole, tmp_path):
    out, _ = whole
    before = files_of(out / "report")
    times = {path: path.stat().st_mtime_ns for path in (out / "report").rglob("*.html")}
    counts = build(scan(out), out / "report", SETTINGS)
    assert (counts["written"], counts["removed"]) == (0, 0)
    assert files_of(out / "report") == before
    assert times == {path: path.stat().st_mtime_ns for path in (out / "report").rglob("*.html")}
    build(scan(out), tmp_path / "elsewhere", SETTINGS)
    assert files_of(tmp_path / "elsewhere") == before


def test_a_changed_scene_is_made_again_and_a_gone_one_goes(tmp_path):
    for number in range(3):
        put_scene(tmp_path, f"room{number}", seed=number, count=300)
    folder = tmp_path / "report"
    build(scan(tmp_path), folder, SETTINGS)
    shutil.rmtree(tmp_path / "train/room0")
    put_scene(tmp_path, "room1", seed=9, count=400)
    counts = build(scan(tmp_path), folder, SETTINGS)
    assert counts["written"] == 1
    assert counts["removed"] == 3  # page and thumbnail of room0, the old thumbnail of room1
    assert sorted(path.name for path in (folder / "scenes/train").iterdir()) == ["room1.html", "room2.html"]


def test_a_killed_run_is_gone_on_with(tmp_path, monkeypatch):
    for number in range(3):
        put_scene(tmp_path, f"room{number}", seed=number, count=300)
    folder, calls = tmp_path / "report", []
    write = build_module.write_file

    def dies(path, data):
        calls.append(path)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return write(path, data)

    monkeypatch.setattr(build_module, "write_file", dies)
    with pytest.raises(KeyboardInterrupt):
        build(scan(tmp_path), folder, SETTINGS)
    monkeypatch.setattr(build_module, "write_file", write)
    assert not (folder / "index.html").exists()
    (folder / "data" / f".scenes~{socket.gethostname()}-999999999.js").write_text("left by a killed run")
    build(scan(tmp_path), folder, SETTINGS)
    build(scan(tmp_path), tmp_path.with_name("fresh"), SETTINGS)
    assert files_of(folder) == files_of(tmp_path.with_name("fresh"))


def test_pages_only_for_the_first_and_the_extremes(tmp_path):
    for number in range(6):
        put_scene(tmp_path, f"room{number}", seed=number, count=200, quality={"score": number / 10})
    settings = ReportSettings(pages=1, extremes=1, points=200, chunk=4)
    assert build(scan(tmp_path), tmp_path / "report", settings)["pages"] == 2
    rows = gallery(tmp_path / "report")
    assert [row[-1] for row in rows] == [1, 0, 0, 0, 0, 1]
    assert len(list((tmp_path / "report/data").glob("scenes-*.js"))) == 2


@pytest.mark.parametrize("part", ["segments", "videos", "states", "damaged", "failures"])
def test_any_part_alone_is_reported(tmp_path, part):
    if part == "segments":
        put_record(tmp_path / "_work/segments/a", "segment", "failed", "a: no video stream")
    elif part == "videos":
        put_record(tmp_path / "_work/videos/a", "collect")
    elif part == "states":
        journal = Journal(tmp_path / "_work/log", "all")
        journal.put(Row("reconstruct", "a_000", "a", "failed", "its process was killed", seconds=7.0))
        assert journal.save()
    elif part == "failures":
        (tmp_path / "package_failures.json").write_text('[{"source": "x.ply", "scene": "x", "reason": "empty"}]')
    else:
        put_record(tmp_path / "_work/videos/a", "collect")
        put_scene(tmp_path, "whole", count=200)
        for name, text in (("cut", '{"name": "c'), ("none", '{"arrays": ["coord"]}')):
            (tmp_path / "train" / name).mkdir()
            (tmp_path / "train" / name / "meta.json").write_text(text)
        (tmp_path / "_work/segments/b").mkdir(parents=True)
        (tmp_path / "_work/segments/b/record.json").write_text("[]")
        put_record(tmp_path / "_work/segments/c", "segment")
        scenes = '{"scenes": [{"scene_id": "c_1", "intervals": [[0, null]]}, {"scene_id": "c_2", "intervals": null}]}'
        (tmp_path / "_work/segments/c/scenes.json").write_text(scenes)
        (tmp_path / "_work/log").mkdir()
        (tmp_path / "_work/log/all.jsonl").write_bytes(b"no log")
    build(scan(tmp_path), tmp_path / "report", SETTINGS)
    page = (tmp_path / "report/index.html").read_text("utf-8")
    assert "From videos to scenes" in page
    if part == "states":
        assert "7 s of work" in page
        assert "its process was killed" in page


def test_nothing_to_report_on_is_one_line(tmp_path):
    with pytest.raises(ReportError, match="holds no scene"):
        scan(tmp_path)
    with pytest.raises(ReportError, match="is no folder"):
        scan(tmp_path / "none")


def test_reasons_of_many_items_become_one():
    one = generic_reason("a_001: 12 of 40 frames posed, see /data/x/a_001/log.txt", "a_001")
    two = generic_reason("b_07: 3 of 36 frames posed, see /home/b/log.txt", "b_07")
    assert one == two
    assert "N of N frames posed" in one
    assert generic_reason("n: no room in the video", "n") == "no room in the video"
    assert generic_reason("", "a") == "no reason given"
    assert generic_reason("no PyAV: pip install 'av>=17'", "a") == "no PyAV: pip install 'av>=17'"  # a cure to copy


def test_the_command_line(tmp_path, capsys):
    put_scene(tmp_path, "room", count=200)
    assert script.main([str(tmp_path), "--pages", "all", "--points", "200"]) == 0
    assert str(tmp_path / "report/index.html") in capsys.readouterr().out
    for bad in ([tmp_path / "none"], [tmp_path, "--report", tmp_path], [tmp_path, "--points", 3]):
        assert script.main(list(map(str, bad))) == 2
        assert re.fullmatch(r"report: [^\n]+\n", capsys.readouterr().err)
    (tmp_path / "file").write_text("")
    assert script.main([str(tmp_path), "--report", str(tmp_path / "file" / "x")]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("report: ")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium on the PATH")
def test_pages_run_in_a_browser(whole, tmp_path):
    folder = whole[0] / "report"
    flags = ["--headless", "--no-sandbox", "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader"]
    flags += ["--enable-unsafe-swiftshader", "--enable-logging=stderr", "--virtual-time-budget=6000", "--dump-dom"]
    flags += [f"--user-data-dir={tmp_path}"]
    for path in (folder / "index.html", folder / "scenes/train/tour_000.html"):
        done = subprocess.run(["chromium", *flags, path.as_uri()], capture_output=True, text=True, timeout=90)
        complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "GPU stall" not in line]
        assert complaints == []
        if path.name == "index.html":
            assert done.stdout.count('class="card"') == 6 + 2  # the gallery, made by its script, and the extremes
        else:
            assert "pv-canvas" in done.stdout
            assert 'aria-pressed="true"' in done.stdout


def test_the_script_runs_by_its_path():
    root = Path(script.__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, str(root / "data_tools/report.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0
    assert "python data_tools/report.py data/roomtours --open" in done.stdout
