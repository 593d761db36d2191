"""What a run says of the time and space that are left, before and while it works."""

import re

import pytest

from data_tools.chain import estimate
from data_tools.chain.estimate import Cost, choose, forecast, spread
from data_tools.chain.items import VideoItem
from data_tools.chain.journal import Row
from data_tools.chain.progress import SEGMENTED, Bar, expected_seconds
from tests.data_tools.chain.chain_fakes import CALLS
from tests.data_tools.chain.chain_run import calls_made, make_videos, run_here

FAILED = Row("segment", "c", "c", "failed", "c: broken")


def timed(**seconds):
    return [VideoItem(name, extra={"duration": length}) for name, length in seconds.items()]


def test_the_bars_total_stays_and_what_was_settled_does_not_make_it_hurry(capsys):
    bar = Bar()
    bar.begin(timed(a=100.0, b=300.0, c=600.0))
    inner = bar._bar
    seen = []

    def see(*end, is_new):
        bar.end(*end, is_new)
        seen.append(round(inner.n))
        assert inner.total == 1000

    bar.scene("a")
    see("a", True, None, is_new=False)  # settled before: its scene is looked at before the tour is through
    see("a", False, None, is_new=False)
    assert (inner.n, inner.initial) == (100, 100)
    for _ in range(4):
        bar.scene("b")
    see("b", False, None, is_new=True)
    for _ in range(4):
        see("b", True, None, is_new=True)
    see("c", False, FAILED, is_new=True)
    share = 300 * SEGMENTED
    assert seen == [0, 100, *(round(100 + share + (300 - share) * part / 4) for part in range(5)), 1000]
    assert inner.initial == 100
    bar.close()
    assert "failed: segment c: c: broken" in capsys.readouterr().err


def test_lengths_come_from_ranges_the_manifest_sizes_or_the_others(tmp_path):
    (tmp_path / "d.mp4").write_bytes(bytes(500_000))
    videos = [VideoItem("a", ranges=((0.0, 20.0), (50.0, 60.0))), *timed(b="70"), VideoItem("c", url="http://c")]
    found = expected_seconds([*videos, VideoItem("d", tmp_path / "d.mp4")])
    assert found == {"a": 30.0, "b": 70.0, "c": pytest.approx(34.0), "d": 2.0}


def test_the_videos_of_an_estimate_are_spread_over_all_lengths():
    videos = timed(**{f"v{i:02d}": float((i * 7) % 40) for i in range(40)})
    lengths = {video.video_id: video.extra["duration"] for video in videos}
    chosen = choose(videos, lengths, 4)
    assert [int(lengths[video.video_id] // 10) for video in chosen] == [0, 1, 2, 3]
    assert choose(videos, lengths, 4) == chosen
    assert choose(videos, lengths, 4, seed=1) != chosen
    assert len(choose(videos, lengths, 99)) == 40


def test_a_forecast_is_in_proportion_to_the_length_of_the_videos():
    videos = timed(a=100.0, b=300.0, c=600.0, d=1000.0)
    lengths = {video.video_id: video.extra["duration"] for video in videos}
    seconds = {"reconstruct": {"a": 3600, "b": 10800, "c": 21600}, "postprocess": {"a": 360}, "frames": {"b": 360}}
    cost = Cost({stage: estimate.Counter(by) for stage, by in seconds.items()}, 10)
    cost.space["OUT"], cost.files["OUT"] = 3_000_000_000, 50
    text = forecast(cost, videos[:3], videos, lengths, frozenset({"reconstruct"}))
    assert "estimate for 4 videos (0.6 h) from 3 (0.3 h): give or take" in text
    assert "scenes: 20 (3.3 a video)" in text
    assert "GPU: 20.0 h of reconstruct; days by GPUs: 0.833 on 1, 0.104 on 8, 0.013 on 64" in text
    assert re.search(r"CPU: 0\.4 h of segment, postprocess, frames; days by workers", text)
    assert "OUT: 6.00 GB in 100 inodes" in text
    assert spread({"a": 1.0, "b": 3.0, "c": 6.0}, lengths, ["a", "b", "c"]) == pytest.approx(0)
    assert spread({"a": 1.0}, lengths, ["a", "b"]) is None


def test_an_estimate_does_some_videos_and_the_run_after_it_the_others(tmp_path, monkeypatch, capsys):
    (tmp_path / "calls").mkdir()
    monkeypatch.setenv(CALLS, str(tmp_path / "calls"))
    texts = {name: f"room 2 {number} {'x' * 100 * number}" for number, name in enumerate("abcdef")}
    videos, out = make_videos(tmp_path / "videos", **texts), tmp_path / "out"
    assert run_here(monkeypatch, videos, "--out", out, "--estimate", 2) == 0
    said = capsys.readouterr().out
    assert calls_made(tmp_path / "calls") == {"segment": 2, "reconstruct": 4, "postprocess": 4}
    assert "estimate for 6 videos" in said
    assert re.search(r"scenes: \d+ \(2\.0 a video\)", said)
    assert re.search(r"OUT: 0\.\d+ GB in \d+ inodes\n  WORK: ", said)
    assert run_here(monkeypatch, videos, "--out", out) == 0
    assert calls_made(tmp_path / "calls") == {"segment": 4, "reconstruct": 8, "postprocess": 8}
