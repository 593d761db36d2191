"""Lists of videos in all forms, hostile names, bad rows."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from data_tools.collection.manifest import ManifestError, read_manifest, scan_manifest, write_manifest
from data_tools.collection.sources import (
    SourceError,
    VideoSource,
    folder_name,
    source_from_id,
    source_from_url,
    youtube_id,
)

ID, DASH = "abcdefghi_1", "-bcdefghi-2"
URL = "https://www.youtube.com/watch?v="
POSE = " 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0"


def camera(path, video_id, *times):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([URL + video_id, *(f"{t}{POSE}" for t in times)]) + "\n")


@pytest.mark.parametrize(
    "text",
    [
        f"video_id,url\n{ID},{URL}{ID}\n{DASH},{URL}{DASH}\n",
        f"{ID},{URL}{ID}\n{DASH},{URL}{DASH}\n",
        f"url,video_id,title\n{URL}{ID},{ID},a flat\n{URL}{DASH},{DASH},b\n",
        f"{ID}\n{DASH}\n",
        f"{URL}{ID}&t=10s\nhttps://youtu.be/{DASH}?si=x\n",
        f"\ufeffvideo_id;url\r\n{ID};{URL}{ID}\r\n{DASH};\r\n",
        f"youtube_id,split\n{ID},train\n{DASH},val\n",
        f"# comment\nid\n{ID}\n\n{DASH}\n",
    ],
)
def test_tables_with_and_without_header(tmp_path, text):
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    manifest = scan_manifest(path)
    assert manifest.problems == []
    assert [source.url for source in manifest.sources] == [URL + ID, URL + DASH]
    assert manifest.sources[0].video_id == ID
    assert not manifest.sources[1].video_id.startswith("-")
    assert manifest.sources[1].extra["id"] == DASH


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.json", [ID, DASH]),
        ("a.json", [{"id": ID, "title": "x"}, {"url": URL + DASH}]),
        ("a.json", {ID: URL + ID, DASH: {"split": "val"}}),
        ("a.json", {"train": [ID], "val": [{"youtube_id": DASH}]}),
        ("a.json", {ID: [1, 2], DASH: []}),
        ("a.jsonl", [ID, {"video_id": DASH}]),
        ("a.txt", [ID, URL + DASH]),
        ("urls.npy", [ID, DASH]),
    ],
)
def test_other_lists(tmp_path, name, value):
    path = tmp_path / name
    if name.endswith(".npy"):
        np.save(path, np.array(value))
    elif name.endswith(".json"):
        path.write_text(json.dumps(value))
    else:
        path.write_text("\n".join(json.dumps(v) if name.endswith("l") else v for v in value))
    assert [source.url for source in read_manifest(path)] == [URL + ID, URL + DASH]


def test_realestate10k_ranges_of_one_video_are_united(tmp_path):
    camera(tmp_path / "train/0a.txt", ID, 1_000_000, 3_500_000)
    camera(tmp_path / "train/0b.txt", ID, 10_000_000, 12_000_000)
    camera(tmp_path / "train/0c.txt", DASH, 500_000)
    (tmp_path / "train/0d.txt").write_text(f"https://example.org\nx{POSE}\n")
    manifest = scan_manifest(tmp_path)
    assert [source.ranges for source in manifest.sources] == [((1.0, 3.5), (10.0, 12.0)), ((0.5, 0.5),)]
    assert manifest.sources[0].extra["clips"] == "0a 0b"
    assert manifest.duplicates == 1
    (single,) = read_manifest(tmp_path / "train/0b.txt")
    assert single.ranges == ((10.0, 12.0),)


def test_bad_rows_are_named_and_the_others_go_on(tmp_path, capsys):
    path = tmp_path / "list.csv"
    rows = [f"{ID},{URL}{ID}", "short,", f"{DASH},{URL}{ID}", ",https://www.youtube.com/@agent", "x,file:///etc/passwd"]
    path.write_text("video_id,url\n" + "\n".join([*rows, f"{ID},{URL}{ID}", f"{DASH},"]))
    manifest = scan_manifest(path)
    assert [source.url for source in manifest.sources] == [URL + ID, URL + DASH]
    assert [problem.split(": ")[0] for problem in manifest.problems] == [f"{path}:{n}" for n in (3, 4, 5, 6)]
    assert manifest.duplicates == 1
    assert all("\n" not in problem for problem in manifest.problems)
    read_manifest(path)
    assert "4 rows left out, 2 videos" in capsys.readouterr().err


def test_ranges_of_a_table(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(f"video_id,start,end\n{ID},10,20\n{ID},30,40.5\n{DASH},9,2\n")
    manifest = scan_manifest(path)
    assert manifest.sources[0].ranges == ((10.0, 20.0), (30.0, 40.5))
    assert "empty" in manifest.problems[0]


def test_local_folder_keeps_equal_stems_apart(tmp_path):
    for name in ("a/tour.mp4", "b/tour.MOV", "my flat (1).mkv", "-x$HOME`id`.mp4", ".hidden/no.mp4", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    sources = read_manifest(tmp_path)
    names = {source.video_id for source in sources}
    assert len(sources) == len(names) == 4
    assert "my flat (1)" in names
    assert all(source.path.is_file() and source.url is None for source in sources)
    assert not any(set(name) & set("$`/") or name.startswith("-") for name in names)
    assert names == {source.video_id for source in read_manifest(tmp_path)}
    listed = tmp_path / "list.csv"
    listed.write_text("file,id\na/tour.mp4,one\nmissing.mp4,two\n")
    manifest = scan_manifest(listed)
    assert (manifest.sources[0].video_id, manifest.sources[0].path) == ("one", tmp_path / "a/tour.mp4")
    assert "missing.mp4" in manifest.problems[0]


@pytest.mark.parametrize(
    "text",
    [
        *("-abcdefghij", "../../etc/passwd", "a/b\\c", "$(rm -rf ~)", "`id`", "%(title)s", "~root", "a;b|c&d", "*?"),
        *(
            "..",
            ".",
            "-",
            "--exec=id",
            "x" * 500,
            "é" * 200,
            "日本語の部屋",
            "a\x00b\n\x1b[31m",
            "$HOME",
            "con:",
            " lead",
            "",
        ),
    ],
)
def test_folder_names_of_hostile_ids(tmp_path, text):
    name = folder_name(text)
    assert folder_name(name) == name
    assert name
    assert name[0] not in ".-"
    assert not set(name) & set("/\\$`~%;|&*?\"'<>\n\x00\x1b")
    assert len(name.encode()) < 230
    (tmp_path / name).mkdir()
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_changed_names_do_not_meet():
    hostile = ["-a", "--a", "a", "_a", "/a", ".a", "a ", "$a", "%a"]
    assert len({folder_name(text) for text in hostile}) == len(hostile)


@pytest.mark.parametrize(
    "url",
    [
        *(f"https://youtu.be/{ID}", f"https://m.youtube.com/watch?app=desktop&v={ID}&list=PLx", f"{URL}{ID}#t=3"),
        *(
            f"https://www.youtube.com/shorts/{ID}",
            f"https://www.youtube.com/embed/{ID}?a=b",
            f"http://youtube.com/live/{ID}",
        ),
    ],
)
def test_youtube_spellings_are_one(url):
    assert source_from_url(url).url == URL + ID
    assert source_from_url(url).video_id == ID


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://x/y.mp4", "javascript:alert(1)", "ytsearch5:x", "https://", "http://[bad", "https://x/a b"),
        *("https://www.youtube.com/playlist?list=PL1", f"{URL}{ID};rm", f"{URL}--config=/x"),
    ],
)
def test_addresses_that_are_none(url):
    with pytest.raises(SourceError):
        source_from_url(url)


def test_look_alike_hosts_are_not_youtube():
    url = f"https://youtube.com.evil.example/watch?v={ID}"
    assert source_from_url(url).url == url
    assert youtube_id("https://www.youtube.com/feed") is None
    with pytest.raises(SourceError, match="11 of"):
        source_from_id("abc")
    long = folder_name("x" * 500)
    assert VideoSource(f"{long}-123456", url=url).video_id.endswith("-123456")
    with pytest.raises(SourceError, match="folder name"):
        VideoSource("../up", url="https://example.org/a.mp4")


def test_what_is_no_list_is_refused_in_one_line(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"x")
    (tmp_path / "bad.json").write_text("[1,")
    (tmp_path / "none.csv").write_text("video_id,url\n")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "empty").mkdir()
    for name in ("a.pdf", "bad.json", "none.csv", "pickled.npy", "empty", "missing.csv"):
        with pytest.raises(ManifestError) as caught:
            scan_manifest(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_written_manifest_reads_back(tmp_path):
    sources = [source_from_id(ID, extra={"title": 'a, "b"'}), source_from_id(DASH)]
    write_manifest(tmp_path / "m.csv", sources, ["title"])
    assert (tmp_path / "m.csv").read_text().splitlines()[2].startswith(f"{DASH},{URL}{DASH}")
    back = read_manifest(tmp_path / "m.csv")
    assert back == sources
    assert back[0].extra["title"] == 'a, "b"'


IDS = ("AAAAAAAAAAA", "BBBBBBBBBBB", "CCCCCCCCCCC")


@pytest.mark.parametrize("title", ["two\nlines", "a\u2028b", "a\x0bb", "\x85"])
def test_titles_may_hold_line_breaks_of_any_kind(tmp_path, title):
    rows = [{"video_id": name, "title": title} for name in IDS]
    table, lines = tmp_path / "list.csv", tmp_path / "list.jsonl"
    with table.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, ["video_id", "title"])
        writer.writeheader()
        writer.writerows(rows)
    lines.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    for path in (table, lines):
        found = scan_manifest(path)
        assert [source.video_id for source in found.sources] == list(IDS)
        assert {source.extra.get("title", "") for source in found.sources} == {title.strip()}
        assert not found.problems


@pytest.mark.parametrize(
    "bad",
    [
        b"[" * 5000,
        b'{"video_id": ' + b"9" * 5000 + b"}",
        b'"\xff"',
        b'{"video_id": "\\ud800.mp4"}',
        b'{"path": "' + b"x" * 5000 + b'"}',
    ],
    ids=["brackets", "digits", "byte", "surrogate", "long name"],
)
def test_a_bad_line_is_named_and_the_others_go_on(tmp_path, bad):
    path = tmp_path / "list.jsonl"
    path.write_bytes(b'"AAAAAAAAAAA"\n' + bad + b'\n"BBBBBBBBBBB"\n')
    found = scan_manifest(path)
    assert [source.video_id for source in found.sources] == ["AAAAAAAAAAA", "BBBBBBBBBBB"]
    assert len(found.problems) == 1
    assert f"{path}:2" in found.problems[0]
    assert "\n" not in found.problems[0]


@pytest.mark.parametrize(("name", "data"), [("a.csv", b"video_id\nx" + b"y" * 200_000), ("a.json", b"[" * 100_000)])
def test_a_file_beyond_its_readers_limits_is_one_line(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ManifestError) as raised:
        scan_manifest(tmp_path / name)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)
