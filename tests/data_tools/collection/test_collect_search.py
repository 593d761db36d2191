"""Search through yt-dlp's own flat listing with a made-up site; filters; the review file a person edits."""

from __future__ import annotations

import csv

import pytest

from data_tools import collect
from data_tools.collection import search as search_module
from data_tools.collection.channels import channel_reason, read_review
from data_tools.collection.cities import CITIES, TEMPLATES
from data_tools.collection.failures import classify
from data_tools.collection.filters import Filter, read_words
from data_tools.collection.manifest import read_manifest
from data_tools.collection.patience import Pause
from data_tools.collection.queue import QueueStoppedError
from data_tools.collection.search import Lister, apply_filters, channel_page, make_queries, read_candidates
from data_tools.collection.settings import CollectSettings

TITLES = ("Walking tour of a flat", "3D-render of a villa", "House by DRONE", "Quiet home tour", "=HYPERLINK(1)")


def site(asked, errors):
    """A factory of real YoutubeDLs whose only site is made up: query n gives 5 videos of 2 channels."""
    from yt_dlp import YoutubeDL
    from yt_dlp.extractor.common import SearchInfoExtractor
    from yt_dlp.utils import ExtractorError

    class MadeUpSearchIE(SearchInfoExtractor):
        _SEARCH_KEY = "ytsearch"
        IE_NAME = "madeup"

        def _search_results(self, query):
            asked.append(query)
            if errors:
                raise ExtractorError(errors.pop(0), expected=True)
            for number, title in enumerate(TITLES):
                name = f"{len(query):03d}_{number:07d}"
                agent = number % 2
                extra = {"channel_id": f"UC{agent}", "channel": ("Agent", "Studio")[agent], "duration": 600 + number}
                yield self.url_result(
                    f"https://www.youtube.com/watch?v={name}", video_id=name, video_title=title, **extra
                )

    def factory(options):
        ydl = YoutubeDL(options, auto_init=False)
        ydl.add_info_extractor(MadeUpSearchIE())
        return ydl

    return factory


def listed(tmp_path, queries=("Rome tour", "Oslo walk-through"), errors=(), count=5, **kwargs):
    asked, failed = [], []
    settings = CollectSettings(sleep_requests=0, pause=8, pause_max=100, pauses=2)
    lister = Lister(tmp_path, count, settings, site(asked, list(errors)), **kwargs)
    lister.run({query: f"ytsearch{count}:{query}" for query in queries}, failed)
    return asked, failed


def test_search_lists_filters_and_writes_all_files(tmp_path):
    asked, failed = listed(tmp_path)
    assert (asked, failed) == (["Rome tour", "Oslo walk-through"], [])
    summary = apply_filters(tmp_path, Filter())
    assert (summary.found, summary.kept) == (10, 6)
    assert summary.reasons == {"computer graphics": 2, "drone": 2}
    sources = read_manifest(tmp_path / "manifest.csv")
    assert len(sources) == 6
    assert sources[0].extra["query"] == "Rome tour"
    rows = list(csv.DictReader((tmp_path / "rejected.csv").open()))
    assert rows[0]["reason"] == "computer graphics: '3d-render'"
    review = read_review(tmp_path / "channels.csv")
    assert review["UC0"]["videos"] == "6"
    assert review["UC0"]["kept"] == "4"
    assert "Walking tour" in review["UC0"]["sample_titles"]
    assert asked == ["Rome tour", "Oslo walk-through"]


def test_done_queries_are_not_asked_again_and_a_cut_line_is(tmp_path):
    listed(tmp_path)
    path = tmp_path / "candidates.jsonl"
    path.write_text(path.read_text()[:-40])
    asked, _ = listed(tmp_path)
    assert asked == ["Oslo walk-through"]
    assert [line["query"] for line in read_candidates(path)] == ["Rome tour", "Oslo walk-through"]
    asked, _ = listed(tmp_path, count=50)
    assert len(asked) == 2  # more entries are wanted now


def test_listing_stops_at_the_count(tmp_path):
    listed(tmp_path, ["Rome tour"], count=2)
    (line,) = read_candidates(tmp_path / "candidates.jsonl")
    assert len(line["entries"]) == 2


def test_rate_limit_waits_and_asks_the_same_query_again(tmp_path):
    slept, clock = [], [0.0]

    def sleep(seconds):
        slept.append(seconds)
        clock[0] += seconds

    pause = Pause(tmp_path, sleep, lambda: clock[0])
    asked, failed = listed(tmp_path, errors=["HTTP Error 429: Too Many Requests", "odd"], pause=pause)
    assert asked == ["Rome tour", "Rome tour", "Oslo walk-through"]
    assert slept == [8.0]
    assert failed[0].startswith("Rome tour: ")
    assert "odd" in failed[0]
    asked, failed = listed(tmp_path)
    assert asked == ["Rome tour"]  # what failed in passing is asked again
    with pytest.raises(QueueStoppedError, match="start it again"):
        listed(tmp_path / "b", errors=["HTTP Error 429"] * 3, pause=Pause(tmp_path / "b", sleep, lambda: clock[0]))


def test_a_persons_edits_of_the_review_file_stay(tmp_path):
    listed(tmp_path, ["Rome tour"])
    apply_filters(tmp_path, Filter())
    path = tmp_path / "channels.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8-sig")))
    assert any(row["sample_titles"].startswith("'=") or " | =" in row["sample_titles"] for row in rows)
    for row in rows:
        row["decision"] = {"UC0": "Yes", "UC1": "no"}[row["channel_id"]]
        row["note"] = "seen on Monday; fine"
        row["mine"] = "42"
    rows.append({**rows[0], "channel_id": "UC_other", "decision": "deny", "videos": "1"})
    with path.open("w", newline="", encoding="utf-8") as handle:  # as a German spreadsheet saves it
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    listed(tmp_path)
    summary = apply_filters(tmp_path, Filter(), only_allowed=True)
    after = read_review(path)
    assert {key: row["decision"] for key, row in after.items()} == {"UC0": "allow", "UC1": "deny", "UC_other": "deny"}
    assert after["UC0"]["videos"] == "6"  # counted anew
    assert {row["mine"] for row in after.values()} == {"42"}
    assert after["UC1"]["note"] == "seen on Monday; fine"
    assert summary.reasons["channel"] == 4
    assert all(source.extra["channel_id"] == "UC0" for source in read_manifest(tmp_path / "manifest.csv"))
    text = path.read_bytes()
    apply_filters(tmp_path, Filter(), only_allowed=True)
    assert path.read_bytes() == text


def test_unknown_decision_names_the_line_and_changes_nothing(tmp_path):
    listed(tmp_path, ["Rome tour"])
    path = tmp_path / "channels.csv"
    path.write_text("channel_id,decision\nUC0,maybe\n")
    with pytest.raises(ValueError, match=r"channels\.csv:2: decision 'maybe'"):
        apply_filters(tmp_path, Filter())
    assert path.read_text() == "channel_id,decision\nUC0,maybe\n"


def test_channels_by_decision():
    decisions = {"uc1": "deny", "@agent": "allow"}
    assert channel_reason({"channel_id": "UC1", "channel": "Agent"}, decisions, False) == "channel: denied"
    assert channel_reason({"uploader_id": "@Agent"}, decisions, True) == ""
    assert channel_reason({"channel_id": "UC8"}, decisions, False) == ""
    assert channel_reason({"channel_id": "UC8"}, decisions, True) == "channel: not allowed yet"


@pytest.mark.parametrize(
    ("title", "reason"),
    [
        ("3D Rendering of a house", "computer graphics"),
        ("3d_render walkthrough", "computer graphics"),
        ("Villa (CGI)", "computer graphics"),
        ("Architectural-Visualisation, Lumion 12", "computer graphics"),
        ("made in Unreal-Engine", "computer graphics"),
        ("マンション CGパース", "computer graphics"),
        ("Bloxburg house tour", "computer graphics"),
        ("4K DRONE footage", "drone"),
        ("drones over Rome", "drone"),
        ("FPV fly-through", "drone"),
        ("bird’s-eye view", "drone"),
        ("ドローンで見る家", "drone"),
        ("tiny home #shorts", "shorts"),
        ("tiny home #Short", "shorts"),
        ("Matterport 3D tour", "360"),
        ("Photo slide-show of a flat", "pictures"),
        ("He had to surrender the house", ""),
        ("A short walk through a flat in Newport News", ""),
        ("GTA real estate: condo walk-through", ""),
        ("Game room and kitchen with a blender", ""),
        ("Andronescu residence tour", ""),
        ("Scgill Road 12", ""),
        ("Renderly Street apartment, walkthrough", ""),
        ("", ""),
    ],
)
def test_words_in_titles(title, reason):
    assert Filter().reason({"title": title, "duration": 600}).split(":")[0] == reason


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"duration": 30}, "duration"),
        ({"duration": 7200}, "duration"),
        ({"live_status": "is_live"}, "live"),
        ({"live_status": "was_live"}, "live"),
        ({"url": "https://www.youtube.com/shorts/abcdefghijk"}, "shorts"),
        ({"description": "drone shots on request"}, ""),
        ({"duration": None, "live_status": "not_live"}, ""),
    ],
)
def test_other_metadata(entry, reason):
    assert Filter().reason({"title": "flat", **entry}).split(":")[0] == reason


def test_words_of_a_file_replace_those_of_their_reason(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("# mine\ndrone:\nempty rooms: vacant, unfurnished\n")
    words = read_words(path)
    wanted = Filter(words=words)
    assert wanted.reason({"title": "drone"}) == ""
    assert wanted.reason({"title": "An Unfurnished flat"}) == "empty rooms: 'unfurnished'"
    path.write_text("drone\n")
    with pytest.raises(ValueError, match=r"words\.txt:1"):
        read_words(path)


def test_queries_and_channel_pages():
    queries = make_queries([*TEMPLATES, "house tour"], ["Rome", "Oslo", "Rome"])
    assert queries == ["Rome, real-estate, walk-through", "Oslo, real-estate, walk-through", "house tour"]
    with pytest.raises(ValueError, match="only field"):
        make_queries(["{town} tour"], ["Rome"])
    assert len(CITIES) == len(set(CITIES)) > 200
    assert channel_page("@agent") == "https://www.youtube.com/@agent/videos"
    assert channel_page("https://www.youtube.com/c/agent/?x=1") == "https://www.youtube.com/c/agent/videos"
    assert channel_page("UC-x_1") == "https://www.youtube.com/channel/UC-x_1/videos"
    for wrong in ("agent", "@", "@a/../b", ""):
        with pytest.raises(ValueError, match="@handle"):
            channel_page(wrong)


def test_search_command(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(search_module, "youtube_dl", site(asked, []))
    command = ["search", "--out", str(tmp_path), "--city", "Rome", "--city", "Oslo", "--count", "5"]
    assert collect.main([*command, "--sleep-requests", "0"]) == 0
    assert asked == ["Rome, real-estate, walk-through", "Oslo, real-estate, walk-through"]
    assert "kept" in capsys.readouterr().out
    assert collect.main([*command, "--offline", "--min-duration", "602"]) == 0
    assert len(asked) == 2
    assert "duration" in capsys.readouterr().out
    assert collect.main([*command, "--offline", "--review", str(tmp_path / "mine.csv")]) == 0
    assert f"decide on channels in {tmp_path / 'mine.csv'} " in capsys.readouterr().out
    assert collect.main([*command, "--template", "{town}"]) == 2
    assert collect.main([*command, "--words", str(tmp_path / "no.txt")]) == 2
    assert collect.main([*command, "--min-duration", "9", "--max-duration", "2"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len([line for line in errors if line.startswith("collect: ")]) == 3


def test_search_failures_are_classified_like_downloads():
    assert classify("ERROR: [madeup] HTTP Error 429").kind == "rate_limited"
