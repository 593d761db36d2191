"""What messages mean, waits that outlive the process, the ledger, settings; with a made-up YoutubeDL."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from data_tools import collect
from data_tools.collection import fetch as fetch_module
from data_tools.collection import patience, preflight
from data_tools.collection.failures import DISK, LOGIN, PASSING, PERMANENT, RATE_LIMITED, classify
from data_tools.collection.fetch import collect_video
from data_tools.collection.ledger import AREA, add_try, coverage, read_tries
from data_tools.collection.patience import Pause
from data_tools.collection.preflight import check_tools
from data_tools.collection.queue import collect_patiently, fetch_all
from data_tools.collection.settings import CollectSettings, download_options, retry_wait
from data_tools.collection.sources import source_from_id
from data_tools.stages.record import read_record
from data_tools.video.sampling import write_video

RATE = (
    "ERROR: [youtube] abc: Video unavailable. This content isn't available, try again later. The current session has "
    "been rate-limited by YouTube for up to an hour. It is recommended to use `-t sleep`"
)
BOT = "ERROR: [youtube] abcdefghijk: Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies"
GONE = "ERROR: [youtube] abcdefghijk: Video unavailable. This video has been removed by the uploader"
NETWORK = "ERROR: Unable to download webpage: <urlopen error [Errno -3] Temporary failure in name resolution>"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (RATE, RATE_LIMITED),
        (BOT, RATE_LIMITED),
        ("ERROR: unable to download video data: HTTP Error 429: Too Many Requests", RATE_LIMITED),
        ("\x1b[0;31mERROR:\x1b[0m Sign in to confirm you are not a bot", RATE_LIMITED),
        ("Our systems have detected unusual traffic from your network", RATE_LIMITED),
        ("x. YouTube is requiring a captcha challenge before playback", RATE_LIMITED),
        (GONE, PERMANENT),
        ("[youtube] x: Private video. Sign in if you've been granted access to this video", PERMANENT),
        ("[youtube] x: Video unavailable", PERMANENT),
        ("[youtube] x: This video is not available", PASSING),
        ("[youtube] x: Video unavailable. This video isn’t available", PASSING),
        ("[youtube] x: This video isn't available anymore", PERMANENT),
        ("[youtube] x: The following content is not available on this app. Watch on the latest version", PASSING),
        ("[youtube] x: This content isn't available", PASSING),
        ("The downloaded file is empty", PASSING),
        ("[youtube] x: This video is no longer available because the YouTube account has been terminated", PERMANENT),
        ("[youtube] x: This video contains content from X, who has blocked it on copyright grounds", PERMANENT),
        ("[youtube] x: This video has been removed for violating YouTube's Terms of Service", PERMANENT),
        ("[youtube] x: The uploader has not made this video available in your country", PERMANENT),
        ("[youtube] x: This live stream recording is not available.", PERMANENT),
        ("[youtube] x: This video requires payment to watch", PERMANENT),
        ("[generic] Unable to download webpage: HTTP Error 404: Not Found", PERMANENT),
        ("Unsupported URL: https://example.org/rate-limit-not-a-bot", PERMANENT),
        ("[youtube:truncated_id] abc: Incomplete YouTube ID abc. URL https://x looks truncated.", PERMANENT),
        ("[youtube] x: Sign in to confirm your age. This video may be inappropriate for some users.", LOGIN),
        ("[youtube] x: Join this channel to get access to members-only content like this video", LOGIN),
        ("unable to write data: [Errno 28] No space left on device", DISK),
        (NETWORK, PASSING),
        ("unable to download video data: HTTP Error 403: Forbidden", PASSING),
        ("unable to download video data: HTTP Error 503: Service Unavailable", PASSING),
        ("The read operation timed out", PASSING),
        ("1024 bytes read, 99999 more expected", PASSING),
        ("[youtube] x: Requested format is not available. Use --list-formats", PASSING),
        ("[youtube] x: Premieres in 3 hours", PASSING),
        ("[youtube] x: This live event will begin in 2 days.", PASSING),
        ("[youtube] x: Unable to extract initial player response; please report this issue on https://x", PASSING),
        ("something that no one has seen before", PASSING),
        ("", PASSING),
    ],
)
def test_what_messages_mean(message, kind):
    failure = classify(message)
    assert failure.kind == kind
    assert "\n" not in failure.reason
    assert "\x1b" not in failure.reason
    assert failure.reason


class FakeDL:
    """Plays a script: per video id the errors of its next tries, then a file."""

    def __init__(self, script, video):
        self.script, self.video, self.asked, self.options = script, video, [], None

    def __call__(self, options):
        self.options = options
        return self

    def __enter__(self):
        return self

    def __exit__(self, *args):
        """Nothing to close."""

    def extract_info(self, url, download):
        name = url.partition("v=")[2]
        self.asked.append(name)
        steps = self.script.get(name, [])
        step = steps.pop(0) if steps else None
        if isinstance(step, dict):
            return step
        if step is not None:
            raise RuntimeError(step)
        return {"id": name, "title": "Flat", "channel": "Agent", "duration": 2.0, "live_status": "not_live"}

    def process_ie_result(self, info, download):
        path = Path(self.options["paths"]["home"]) / "video.22.mp4"
        path.write_bytes(self.video)
        return {**info, "requested_downloads": [{"filepath": str(path)}]}


class Clock:
    """Time that passes only in sleep."""

    def __init__(self):
        self.time, self.slept = 1e6, []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds

    def now(self):
        return self.time


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    import numpy as np

    path = tmp_path_factory.mktemp("video") / "v.mp4"
    write_video(path, np.zeros((4, 48, 64, 3), np.uint8), fps=4)
    return path.read_bytes()


def ids(count):
    return [f"video_{n:05d}" for n in range(count)]


def run(tmp_path, fake, count=3, settings=None, clock=None, **kwargs):
    clock = clock or Clock()
    sources = [source_from_id(name) for name in ids(count)]
    settings = settings or CollectSettings(pause=60, pause_max=200, pauses=3, network_pause=20)
    return fetch_all(
        sources, tmp_path, settings, is_quiet=True, factory=fake, sleep=clock.sleep, now=clock.now, **kwargs
    )


def test_queue_waits_at_rate_limit_and_drops_nothing(tmp_path, video):
    clock, fake = Clock(), FakeDL({ids(2)[1]: [RATE, BOT, RATE]}, video)
    summary = run(tmp_path, fake, clock=clock)
    assert [record.status for record in summary.records.values()] == ["done"] * 3
    assert fake.asked == [ids(3)[0], *[ids(3)[1]] * 4, ids(3)[2]]  # it stayed at the one that was refused
    assert sum(clock.slept) == pytest.approx(60 + 120 + 200)
    assert Pause(tmp_path).state() == (0.0, 0, "")


def test_queue_gives_up_for_now_and_the_next_run_keeps_the_pause(tmp_path, video):
    clock, fake = Clock(), FakeDL({ids(1)[0]: [RATE] * 5}, video)
    summary = run(tmp_path, fake, clock=clock)
    assert "start it again" in summary.stopped
    assert summary.exit_code == 1
    assert fake.asked == [ids(1)[0]] * 4
    report = coverage([source_from_id(name) for name in ids(3)], tmp_path)
    assert (report.fetched, report.gone, report.waiting) == (0, 0, 3)
    assert read_record(tmp_path / ids(1)[0]).permanent is False
    Pause(tmp_path, now=clock.now).begin(60, 1000, "rate limit")  # killed while it waits: started again, it still does
    again = Clock()
    again.time = clock.time + 100
    assert run(tmp_path, fake, clock=again).exit_code == 0
    assert again.slept
    assert again.slept[0] == 30.0


def test_dead_network_does_not_burn_the_queue(tmp_path, video):
    clock, fake = Clock(), FakeDL({name: [NETWORK] for name in ids(4)}, video)
    settings = CollectSettings(network_failures=2, network_pause=20, pause=60, pause_max=200, rounds=1)
    summary = run(tmp_path, fake, 4, settings, clock)
    assert all(record.status == "done" for record in summary.records.values())
    assert sum(clock.slept) == 20 + 40


def test_patience_belongs_to_the_run(tmp_path, video):
    clock, fake = Clock(), FakeDL({name: [NETWORK] * 99 for name in ids(12)}, video)
    summary = run(tmp_path, fake, 12, clock=clock)
    assert "still refused after 3 waits" in summary.stopped
    assert "check the network" in summary.stopped
    assert sum(clock.slept) == 20 + 40 + 80
    assert len(fake.asked) == 12  # three before each wait, and three after the last
    fake.script.clear()
    assert run(tmp_path, fake, 12).exit_code == 0  # nothing was used up


@pytest.mark.parametrize("last", ["The downloaded file is empty", "HTTP Error 403: Forbidden"])
def test_refusals_of_any_wording_count_together_as_a_rate_limit(tmp_path, video, last):
    first, second, third, *_ = ids(4)
    script = {first: ["HTTP Error 403: Forbidden"], second: ["The downloaded file is empty"], third: [last]}
    clock, fake = Clock(), FakeDL(script, video)
    summary = run(tmp_path, fake, 4, clock=clock)
    assert [record.status for record in summary.records.values()] == ["done"] * 4
    assert sum(clock.slept) == 60
    assert fake.asked == [*ids(4), first, second, third]


def test_videos_that_are_refused_while_others_come_through_do_not_hold_the_queue(tmp_path, video):
    bad = ids(6)[:4]
    clock, fake = Clock(), FakeDL({name: ["HTTP Error 403: Forbidden"] * 99 for name in bad}, video)
    summary = run(tmp_path, fake, 6, clock=clock)
    assert not summary.stopped
    assert sum(clock.slept) == 60
    assert [summary.records[name].status for name in ids(6)] == ["failed"] * 4 + ["done"] * 2


@pytest.mark.parametrize(
    "message",
    [
        "[youtube] {}: The following content is not available on this app. Watch on the latest version of YouTube.",
        "[youtube] {}: Video unavailable",
        "[youtube] {}: Private video. Sign in if you've been granted access",
        "[youtube] {}: Sign in to confirm your age",
        "[youtube] {}: odd thing number 17 of {}",
    ],
)
def test_a_run_of_equal_answers_stops_the_queue_and_uses_up_nothing(tmp_path, video, message):
    fake = FakeDL({name: [message.format(name, name)] for name in ids(30)[2:]}, video)
    summary = run(tmp_path, fake, 30)
    assert "20 answers in a row were alike" in summary.stopped
    assert all(cure in summary.stopped for cure in ("update yt-dlp", "cookies", "wait"))
    assert "\n" not in summary.stopped
    assert len(fake.asked) == 22
    report = coverage([source_from_id(name) for name in ids(30)], tmp_path)
    assert (report.fetched, report.gone, report.waiting) == (2, 0, 28)
    fake.script.clear()
    assert run(tmp_path, fake, 30).exit_code == 0


def test_answers_that_differ_and_alike_0_stop_nothing(tmp_path, video):
    fake = FakeDL({name: [GONE if n % 5 else "Private video"] for n, name in enumerate(ids(30))}, video)
    assert not run(tmp_path, fake, 30).stopped
    fake = FakeDL({name: [GONE] for name in ids(30)}, video)
    assert not run(tmp_path / "b", fake, 30, CollectSettings(alike=0)).stopped
    report = coverage([source_from_id(name) for name in ids(30)], tmp_path / "b")
    assert report.gone == 30


def test_too_long_videos_are_no_sign_of_anything_and_small_ones_are(tmp_path, video):
    long = FakeDL({name: [{"duration": 9e5}] for name in ids(25)}, video)
    assert not run(tmp_path / "long", long, 25, CollectSettings(max_duration=60)).stopped
    small = FakeDL({name: [{"height": 144}] for name in ids(25)}, video)
    assert "alike" in run(tmp_path / "small", small, 25, CollectSettings(min_height=480)).stopped


def test_passing_failures_come_again_and_permanent_ones_do_not(tmp_path, video):
    first, second, third = ids(3)
    fake = FakeDL({first: ["odd thing"], second: [GONE], third: [{"live_status": "is_upcoming"}] * 2}, video)
    summary = run(tmp_path, fake)
    assert [record.status for record in summary.records.values()] == ["done", "failed", "failed"]
    assert fake.asked == [first, second, third, first]
    fake.asked.clear()
    summary = run(tmp_path, fake)
    assert fake.asked == [third]
    report = coverage([source_from_id(name) for name in ids(3)], tmp_path)
    assert (report.asked, report.fetched, report.gone, report.waiting) == (3, 1, 1, 1)
    assert report.reasons == {"gone: removed": 1, "waiting: live": 1}
    assert run(tmp_path, fake, retry_gone=True).exit_code == 0
    assert [entry["kind"] for entry in read_tries(tmp_path)].count("done") == 3


def test_age_limit_waits_for_cookies(tmp_path, video):
    name = ids(1)[0]
    fake = FakeDL({name: ["Sign in to confirm your age"]}, video)
    assert run(tmp_path, fake, 1).exit_code == 1
    assert run(tmp_path, fake, 1).records[name].skipped
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n")
    assert run(tmp_path, fake, 1, CollectSettings(cookies=cookies)).exit_code == 0
    assert fake.options["cookiefile"] == str(cookies)
    assert len(fake.asked) == 2


def test_one_video_with_waits(tmp_path, video, monkeypatch):
    name, said = ids(1)[0], []
    fake = FakeDL({name: [BOT, RATE]}, video)
    monkeypatch.setattr(fetch_module, "youtube_dl", fake)
    settings = CollectSettings(pause=0, pauses=2)
    record = collect_patiently(source_from_id(name), tmp_path / name, settings, say=said.append)
    assert (record.status, len(fake.asked)) == ("done", 3)
    fake.script[name] = [BOT] * 9
    (tmp_path / name / "record.json").unlink()
    record = collect_patiently(source_from_id(name), tmp_path / name, settings, say=said.append)
    assert (record.status, record.permanent, record.result["failure"]) == ("failed", False, "rate_limited")


def test_full_disk_stops_the_run(tmp_path, video):
    fake = FakeDL({ids(1)[0]: ["unable to write data: [Errno 28] No space left on device"]}, video)
    summary = run(tmp_path, fake)
    assert "make room" in summary.stopped
    assert len(fake.asked) == 1


def test_limit_counts_new_downloads_only(tmp_path, video):
    fake = FakeDL({}, video)
    run(tmp_path, fake, 3, limit=2)
    assert len(fake.asked) == 2
    run(tmp_path, fake, 3, limit=1)
    assert fake.asked == ids(3)


def test_lists_and_silent_ends_are_failures(tmp_path, video):
    class Silent(FakeDL):
        def process_ie_result(self, info, download):
            return info

    source = source_from_id(ids(1)[0])
    record = collect_video(source, tmp_path / "a" / source.video_id, factory=Silent({}, video))
    assert record.result == {"failure": "passing", "category": "no file"}
    fake = FakeDL({source.video_id: [{"_type": "playlist", "entries": []}]}, video)
    assert collect_video(source, tmp_path / "b" / source.video_id, factory=fake).permanent


def test_lost_video_file_is_fetched_again(tmp_path, video):
    fake, source = FakeDL({}, video), source_from_id(ids(1)[0])
    folder = tmp_path / source.video_id
    collect_video(source, folder, factory=fake)
    (folder / "video.mp4").unlink()
    assert not collect_video(source, folder, factory=fake).skipped
    assert (folder / "video.mp4").is_file()


def test_path_that_yt_dlp_would_expand_is_refused(tmp_path, video):
    source = source_from_id(ids(1)[0])
    record = collect_video(source, tmp_path / "$HOME" / source.video_id, factory=FakeDL({}, video))
    assert record.status == "failed"
    assert "expand" in record.reason


def test_damaged_ledger_line_is_passed_over(tmp_path):
    path, source = tmp_path / AREA / "ledger.jsonl", source_from_id(ids(1)[0])
    add_try(tmp_path, source, "passing", "network", "first")
    with path.open("a") as handle:
        handle.write('{"video_id": "cut o')
    add_try(tmp_path, source, "done", "", "")
    assert [entry["kind"] for entry in read_tries(tmp_path)] == ["passing", "done"]
    assert json.loads(path.read_text().splitlines()[0])["time"].endswith("+00:00")


def test_options_are_polite_and_set_what_the_api_leaves_out(tmp_path):
    options = download_options(CollectSettings(), tmp_path, None, None)
    assert options["retries"] == options["fragment_retries"] == 10
    assert options["ignoreerrors"] is False
    assert (options["sleep_interval"], options["max_sleep_interval"], options["sleep_interval_requests"]) == (
        5,
        10,
        0.75,
    )
    assert options["continuedl"] is True
    assert options["nopart"] is False
    assert options["format_sort"] == ["vcodec:h264", "res", "fps"]
    assert "cookiefile" not in options
    assert "cookiesfrombrowser" not in options
    assert all(1 <= wait(n=0) <= 1.25 for wait in options["retry_sleep_functions"].values())  # yt-dlp passes n by name
    assert retry_wait(40) <= 75
    from yt_dlp import YoutubeDL

    with YoutubeDL(options) as ydl:  # the real one takes them
        assert ydl.params["format"].startswith("bv*[height<=?720]")


def test_h264_without_sound_is_chosen(tmp_path):
    from yt_dlp import YoutubeDL

    def stream(name, height, vcodec, acodec="none"):
        url = f"https://example.org/{name}.mp4"
        return {"format_id": name, "url": url, "ext": "mp4", "height": height, "vcodec": vcodec, "acodec": acodec}

    def choose(*formats):
        info = {"id": "x", "title": "x", "extractor": "x", "extractor_key": "X", "formats": list(formats)}
        with YoutubeDL(download_options(CollectSettings(), tmp_path, None, None)) as ydl:
            return ydl.process_ie_result(info, download=False)["format_id"]

    both, av1 = stream("both", 360, "avc1.42001E", "mp4a.40.2"), stream("av1", 720, "av01.0.08M.08")
    assert choose(both, av1, stream("h264", 720, "avc1.64001f"), stream("large", 1080, "avc1.640028")) == "h264"
    assert choose(av1, stream("vp9", 480, "vp9")) in ("av1", "vp9")
    assert choose(stream("unknown", None, None)) == "unknown"


@pytest.mark.parametrize(
    "wrong",
    [{"max_height": 0}, {"sleep_interval": (3, 1)}, {"pause": -1}, {"cookies": Path("no/such")}, {"rounds": 0}],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        CollectSettings(**wrong)


def test_every_option_of_fetch_reaches_the_settings():
    given = {
        "--max-height": 480,
        "--min-height": 240,
        "--max-duration": 60.0,
        "--rounds": 3,
        "--rate": 5e5,
        "--alike": 4,
    }
    given |= {"--proxy": "socks5://x", "--sleep-requests": 2.0, "--pause": 8.0, "--pauses": 2}
    command = ["fetch", "list.csv", "--out", "videos", *(str(part) for option in given.items() for part in option)]
    settings = collect._settings(collect.parse_args(command))
    names = {option: option[2:].replace("-", "_") for option in given} | {"--rate": "bytes_per_second"}
    assert {option: getattr(settings, name) for option, name in names.items()} == given


def test_digest_follows_what_is_downloaded_only(tmp_path):
    plain = CollectSettings().digest()
    assert CollectSettings(sleep_interval=(0, 0), retries=1, rounds=5).digest() == plain
    assert CollectSettings(max_height=480).digest() != plain


def test_preflight_names_what_is_missing():
    sources = [source_from_id(ids(1)[0])]
    errors, warnings = check_tools(sources, find=lambda name: None)
    assert "deno" in errors[0]
    assert any("ffmpeg" in line for line in warnings)
    errors, warnings = check_tools(sources, find=lambda name: f"/bin/{name}")
    assert errors == []
    assert check_tools([], find=lambda name: None) == ([], [])


def test_download_area_is_beside_the_folders(tmp_path, video):
    fake, source = FakeDL({}, video), source_from_id("-abcdefghij")
    collect_video(source, tmp_path / source.video_id, factory=fake)
    assert Path(fake.options["paths"]["home"]) == tmp_path / AREA / source.video_id
    assert fake.asked == ["-abcdefghij"]
    assert read_record(tmp_path / source.video_id).result["id"] == "-abcdefghij"


@pytest.mark.parametrize(("version", "said"), [("2024.01.05", "yt-dlp 2024.01.05 is 422 days old"), ("2025.02.20", "")])
def test_an_old_yt_dlp_is_named_when_answers_look_like_it(monkeypatch, version, said):
    monkeypatch.setattr(preflight, "tool_versions", lambda names: {"yt-dlp": version})
    assert preflight.age_of_yt_dlp(date(2025, 3, 2)) == said
    monkeypatch.setattr(patience, "age_of_yt_dlp", lambda: said)
    assert patience.cure_line().startswith(said or "update yt-dlp")
    assert "update yt-dlp" in patience.cure_line()
