"""Downloads through the real yt-dlp from a server on this machine that drops, refuses and is killed under."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from data_tools.collect import main
from data_tools.collection import fetch as fetch_module
from data_tools.collection import settings as settings_module
from data_tools.collection.fetch import collect_video, video_file
from data_tools.collection.ledger import AREA, coverage, read_tries
from data_tools.collection.queue import fetch_all
from data_tools.collection.settings import CollectSettings, download_options
from data_tools.collection.sources import source_from_path, source_from_url
from data_tools.stages.record import read_record
from data_tools.video.sampling import write_video

ROOT = Path(__file__).resolve().parents[3]
FAST = CollectSettings(sleep_interval=(0, 0), sleep_requests=0, pause=5, pause_max=60, pauses=3, timeout=10)


@dataclass
class Server:
    """Serves files from memory, with Range; misbehaves on demand.

    Attributes:
        files: path to bytes.
        drop_at: path -> bytes after which its second GET is cut off (with the first, yt-dlp looks what it is).
        refuse: path -> statuses of the next requests.
        pace: seconds of sleep every 16 KiB.
        ranges: starts asked for, of GETs that asked for one.
    """

    files: dict[str, bytes]
    drop_at: dict[str, int] = field(default_factory=dict)
    refuse: dict[str, list[int]] = field(default_factory=dict)
    pace: float = 0.0
    ranges: list[int] = field(default_factory=list)
    bodies: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    url: str = ""


def make_handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            """Quiet."""

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            server.asked += 1
            if server.refuse.get(self.path):
                self.send_error(server.refuse[self.path].pop(0))
                return
            data = server.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            if asked:
                server.ranges.append(start)
            self.send_response(206 if asked else 200)
            self.send_header("Content-Type", "video/mp4" if self.path.endswith(".mp4") else "text/html")
            self.send_header("Accept-Ranges", "bytes")
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if self.command == "GET":
                self.send_body(data, start)

        def send_body(self, data, start):
            server.bodies[self.path] = server.bodies.get(self.path, 0) + 1
            end = server.drop_at.get(self.path, len(data)) if server.bodies[self.path] == 2 else len(data)
            try:
                for at in range(start, end, 16384):
                    self.wfile.write(data[at : min(at + 16384, end)])
                    if server.pace:
                        time.sleep(server.pace)
                self.close_connection |= end < len(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    return Handler


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A small video that is large in bytes: noise does not compress."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    write_video(path, rng.integers(0, 255, (12, 240, 320, 3), dtype=np.uint8), fps=6, crf=10)
    assert path.stat().st_size > 300_000
    return path


@pytest.fixture
def server(video, monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(settings_module, "RETRY_WAIT_MAX", 0.01)
    state = Server({"/room.mp4": video.read_bytes()})
    http = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(state))
    state.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()


def test_fetch_writes_the_video_and_a_record_and_skips_the_second_time(server, tmp_path, video):
    source = source_from_url(f"{server.url}/room.mp4", "flat-1")
    record = collect_video(source, tmp_path / "flat-1", FAST)
    assert record.status == "done", record.reason
    folder = tmp_path / "flat-1"
    assert sorted(p.name for p in folder.iterdir()) == ["record.json", "video.mp4"]
    assert (folder / "video.mp4").read_bytes() == video.read_bytes()
    assert video_file(folder) == folder / "video.mp4"
    result = record.result
    assert (result["width"], result["height"], result["id"], result["url"]) == (320, 240, "flat-1", source.url)
    assert result["duration"] == pytest.approx(2.0, abs=0.2)
    assert "yt-dlp" in result["tools"]
    assert str(tmp_path) not in (folder / "record.json").read_text()
    assert not (tmp_path / AREA / "flat-1").exists()
    asked = server.asked
    assert collect_video(source, folder, FAST).skipped
    assert server.asked == asked


def test_two_runs_leave_the_same_bytes(server, tmp_path):
    source = source_from_url(f"{server.url}/room.mp4", "flat")
    texts = []
    for name in ("a", "b"):
        collect_video(source, tmp_path / name / "flat", FAST)
        texts.append((tmp_path / name / "flat" / "record.json").read_bytes())
    assert texts[0] == texts[1]


def test_dropped_connection_is_continued_with_a_range_request(server, tmp_path, video):
    size = video.stat().st_size
    server.drop_at["/room.mp4"] = size // 2
    record = collect_video(source_from_url(f"{server.url}/room.mp4", "drop"), tmp_path / "drop", FAST)
    assert record.status == "done", record.reason
    assert (tmp_path / "drop/video.mp4").read_bytes() == video.read_bytes()
    assert any(0 < start <= size // 2 for start in server.ranges)


def test_too_many_requests_stops_the_queue_waits_and_takes_the_same_video(server, tmp_path, video):
    server.files["/second.mp4"] = video.read_bytes()
    server.refuse["/room.mp4"] = [429, 429]
    sources = [source_from_url(f"{server.url}/{name}.mp4", name) for name in ("room", "second")]
    waited, clock = [], [1000.0]

    def sleep(seconds):
        waited.append(seconds)
        clock[0] += seconds

    summary = fetch_all(sources, tmp_path, FAST, is_quiet=True, sleep=sleep, now=lambda: clock[0])
    assert [summary.records[name].status for name in ("room", "second")] == ["done", "done"]
    assert summary.exit_code == 0
    assert waited[:2] == [5.0, 10.0]  # doubled
    kinds = [(entry["video_id"], entry["kind"]) for entry in read_tries(tmp_path)]
    assert kinds == [("room", "rate_limited"), ("room", "rate_limited"), ("room", "done"), ("second", "done")]


def test_missing_video_is_gone_for_good_and_is_not_asked_again(server, tmp_path):
    source = source_from_url(f"{server.url}/none.mp4", "none")
    record = collect_video(source, tmp_path / "none", FAST)
    assert (record.status, record.permanent, record.result["failure"]) == ("failed", True, "permanent")
    assert "404" in record.reason
    assert not (tmp_path / AREA / "none").exists()
    assert "\n" not in record.reason
    asked = server.asked
    assert collect_video(source, tmp_path / "none", FAST).skipped
    assert server.asked == asked
    report = coverage([source], tmp_path)
    assert (report.asked, report.gone, report.waiting, report.tries) == (1, 1, 0, 1)


def test_a_page_that_is_no_video_is_recorded_and_the_next_goes_on(server, tmp_path):
    server.files["/fake.mp4"] = b"<html>please log in</html>" * 4000
    sources = [source_from_url(f"{server.url}/{name}.mp4", name) for name in ("fake", "room")]
    summary = fetch_all(sources, tmp_path, FAST, is_quiet=True)
    assert [summary.records[name].status for name in ("fake", "room")] == ["failed", "done"]
    assert not list((tmp_path / "fake").glob("video*"))
    assert summary.exit_code == 1
    first, bodies = summary.records["fake"], server.bodies["/fake.mp4"]
    assert not first.permanent
    assert fetch_all(sources, tmp_path, FAST, is_quiet=True).records["fake"].permanent  # broken there, not on the way
    assert server.bodies["/fake.mp4"] == 2 * bodies
    assert fetch_all(sources, tmp_path, FAST, is_quiet=True).records["fake"].skipped


def test_failed_refetch_keeps_the_earlier_download(server, tmp_path, video):
    source = source_from_url(f"{server.url}/room.mp4", "keep")
    collect_video(source, tmp_path / "keep", FAST)
    server.files.clear()
    other = CollectSettings(max_height=480, min_height=360, sleep_interval=(0, 0))
    assert collect_video(source, tmp_path / "keep", other).skipped  # changed limits are for what is not there yet
    record = collect_video(source, tmp_path / "keep", other, overwrite=True)
    assert record.status == "failed"
    assert "stays" in record.reason
    assert (tmp_path / "keep/video.mp4").read_bytes() == video.read_bytes()
    assert read_record(tmp_path / "keep").status == "done"


def test_too_low_is_rejected_and_lower_limits_take_it(server, tmp_path):
    class Low:
        def __init__(self, options):
            self.options = options

        def __enter__(self):
            return self

        def __exit__(self, *args):
            """Nothing to close."""

        def extract_info(self, url, download):
            return {"id": "x", "height": 144, "width": 256, "duration": 5000}

    source = source_from_url(f"{server.url}/room.mp4", "low")
    record = collect_video(source, tmp_path / "low", CollectSettings(), factory=Low)
    assert (record.status, record.reason) == ("rejected", "144 lines at best, 480 wanted")
    record = collect_video(source, tmp_path / "low", CollectSettings(min_height=0, max_duration=600), factory=Low)
    assert (record.status, "5000 s" in record.reason) == ("rejected", True)
    assert collect_video(source, tmp_path / "low", FAST).status == "done"


def test_kill_in_mid_download_goes_on_where_it_was(server, tmp_path, video):
    """A separate process is killed with SIGKILL when a good part is there; the next run asks for the rest only."""
    server.pace = 0.05
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"video_id,url\n-kill;$(x),{server.url}/room.mp4\n")
    videos = tmp_path / "videos"
    command = [sys.executable, str(ROOT / "data_tools/collect.py"), "fetch", str(manifest), "--out", str(videos)]
    command += ["--sleep", "0", "0", "--sleep-requests", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        part = None
        for _ in range(600):
            part = next(iter((videos / AREA).glob("*/*.part")), None) if videos.is_dir() else None
            if part is not None and part.stat().st_size > 40_000:
                break
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finally:
        process.stderr.close()
    have = part.stat().st_size
    assert 40_000 < have < video.stat().st_size
    assert not [p for p in videos.iterdir() if not p.name.startswith(".")]
    server.pace, server.ranges[:] = 0.0, []
    assert main([*command[2:], "--pause", "0"]) == 0
    assert have in server.ranges
    (folder,) = [p for p in videos.iterdir() if not p.name.startswith(".")]
    assert (folder / "video.mp4").read_bytes() == video.read_bytes()
    assert not folder.name.startswith("-")
    assert read_record(folder).result["id"] == "-kill;$(x)"


def test_two_at_once_download_it_once(server, tmp_path, video):
    server.pace = 0.01
    source = source_from_url(f"{server.url}/room.mp4", "same")
    records = []
    threads = [
        threading.Thread(target=lambda: records.append(collect_video(source, tmp_path / "same", FAST)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [record.status for record in records] == ["done"] * 3
    assert sorted(record.skipped for record in records) == [False, True, True]
    assert (tmp_path / "same/video.mp4").read_bytes() == video.read_bytes()
    assert len(read_tries(tmp_path)) == 1


def test_a_kill_after_the_download_asks_for_no_byte_again(server, tmp_path, video, monkeypatch):
    """The file is whole but its folder is not in place yet: a second name keeps it through the clean-up."""
    source = source_from_url(f"{server.url}/room.mp4", "late")

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch_module, "fingerprint", killed)
        with pytest.raises(KeyboardInterrupt):
            collect_video(source, tmp_path / "late", FAST)
    assert not (tmp_path / "late").exists()
    (file,) = (tmp_path / AREA / "late").glob("video.*.mp4")
    stamp = file.stat().st_ino
    assert collect_video(source, tmp_path / "late", FAST).status == "done"
    assert (tmp_path / "late/video.mp4").stat().st_ino == stamp


def test_local_video_is_recorded_and_not_copied(tmp_path, video):
    source = source_from_path(video)
    record = collect_video(source, tmp_path / "videos" / source.video_id)
    assert record.status == "done"
    assert record.result["path"] == str(video.resolve())
    assert [p.name for p in (tmp_path / "videos/noise").iterdir()] == ["record.json"]
    assert video_file(tmp_path / "videos/noise") == video.resolve()
    assert collect_video(source, tmp_path / "videos" / source.video_id).skipped
    empty = tmp_path / "empty.mp4"
    empty.touch()
    record = collect_video(source_from_path(empty), tmp_path / "videos/empty")
    assert (record.status, record.permanent) == ("failed", True)
    assert "empty.mp4" in record.reason


def test_commands_dry_run_fetch_report(server, tmp_path, capsys):
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"video_id,url\nroom,{server.url}/room.mp4\nnone,{server.url}/none.mp4\nbad,\n")
    out = ["--out", str(tmp_path / "videos")]
    assert main(["fetch", str(manifest), *out, "--dry-run"]) == 0
    text = capsys.readouterr()
    assert text.out.splitlines()[0].startswith("room\t")
    assert "list.csv:4" in text.err
    assert server.asked == 0
    assert main(["fetch", str(manifest), *out, "--sleep", "0", "0", "--sleep-requests", "0"]) == 1
    assert "1 done" in capsys.readouterr().out
    assert main(["report", str(manifest), *out, "--json", "--missing"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["asked"], report["fetched"], report["gone"]) == (2, 1, 1)
    assert report["missing"][0][:2] == ["none", "gone"]
    assert main(["fetch", str(tmp_path / "no.csv"), *out]) == 2
    assert main(["fetch", str(manifest), *out, "--sleep", "9", "1"]) == 2


def test_proxy_and_extractor_arguments_reach_yt_dlp(tmp_path):
    words = ("youtube:player_client=web,-tv;skip=hls", "generic:impersonate=chrome")
    settings = CollectSettings(proxy="socks5://127.0.0.1:9", extractor_args=words)
    options = download_options(settings, tmp_path, None, None)
    assert options["proxy"] == "socks5://127.0.0.1:9"
    wanted = {"youtube": {"player_client": ["web", "-tv"], "skip": ["hls"]}, "generic": {"impersonate": ["chrome"]}}
    assert options["extractor_args"] == wanted
    assert "proxy" not in download_options(CollectSettings(), tmp_path, None, None)
    assert settings.digest() == CollectSettings().digest()
    for text in ("youtube", "youtube:player_client", ":a=b"):
        with pytest.raises(ValueError, match="give KEY:ARG=VALUE"):
            CollectSettings(extractor_args=(text,))
