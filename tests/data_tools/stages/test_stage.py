"""One item, one folder, one record: whole or not there, and skipped only when it is current."""

import errno
import json
import os

import pytest

from data_tools.stages.files import PARTIAL
from data_tools.stages.record import (
    RejectedError,
    StageError,
    StageRecord,
    is_current,
    read_record,
    run_stage,
    text_hash,
    tool_versions,
)
from data_tools.stages.run import print_records, run_items


def write_result(folder, record):
    (folder / "result.txt").write_text("fine")
    record.result["points"] = 3


def test_a_done_item_is_whole_and_skipped_the_second_time(tmp_path):
    first = run_stage("segment", tmp_path / "a", "s1", "i1", write_result)
    assert first.status == "done"
    assert not first.skipped
    assert (tmp_path / "a/result.txt").read_text() == "fine"
    assert not (tmp_path / PARTIAL).exists()

    def refuse(folder, record):
        raise AssertionError("done again")

    again = run_stage("segment", tmp_path / "a", "s1", "i1", refuse)
    assert again.skipped
    assert again.result == {"points": 3}


@pytest.mark.parametrize(("settings", "source"), [("s2", "i1"), ("s1", "i2")])
def test_changed_settings_or_input_make_it_again(tmp_path, settings, source):
    run_stage("segment", tmp_path / "a", "s1", "i1", write_result)
    record = run_stage("segment", tmp_path / "a", settings, source, lambda folder, record: None)
    assert not record.skipped
    assert not (tmp_path / "a/result.txt").exists()


def test_a_failure_leaves_its_record_alone_and_permanent_ones_are_not_tried_again(tmp_path):
    def fail(folder, record):
        write_result(folder, record)
        raise StageError("film.mp4: truncated; download it again")

    record = run_stage("segment", tmp_path / "a", "s", "i", fail)
    assert (record.status, record.permanent) == ("failed", True)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["record.json"]
    assert run_stage("segment", tmp_path / "a", "s", "i", write_result).skipped


def test_a_full_disk_is_a_passing_failure(tmp_path):
    def full(folder, record):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    record = run_stage("segment", tmp_path / "a", "s", "i", full)
    assert record.status == "failed"
    assert not record.permanent
    assert "free space" in record.reason
    assert run_stage("segment", tmp_path / "a", "s", "i", write_result).status == "done"


def test_rejected_is_not_failed(tmp_path):
    def reject(folder, record):
        raise RejectedError("film.mp4: shows no room")

    assert run_stage("segment", tmp_path / "a", "s", "i", reject).status == "rejected"


def test_an_interrupt_leaves_what_was_there(tmp_path):
    run_stage("segment", tmp_path / "a", "s", "i", write_result)

    def interrupt(folder, record):
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage("segment", tmp_path / "a", "other", "i", interrupt)
    assert (tmp_path / "a/result.txt").exists()
    assert not (tmp_path / PARTIAL).exists()


def test_a_damaged_record_counts_as_none(tmp_path):
    (tmp_path / "record.json").write_text("{")
    assert read_record(tmp_path) is None
    assert not is_current(None, "s", "i")
    (tmp_path / "record.json").write_text(json.dumps({"unknown": 1}))
    assert read_record(tmp_path) is None


def test_records_are_the_same_bytes_on_every_run(tmp_path):
    for name in ("one", "two"):
        run_stage("segment", tmp_path / name / "a", "s", "i", write_result)
    assert (tmp_path / "one/a/record.json").read_bytes() == (tmp_path / "two/a/record.json").read_bytes()


def test_hashes_tell_parts_apart():
    assert text_hash("ab", "c") != text_hash("a", "bc")


def test_versions_name_what_is_installed():
    assert set(tool_versions(["numpy", "no-such-package-at-all"])) == {"numpy"}


def make(item):
    if item == "dies":
        os._exit(9)
    return StageRecord("segment", item, "rejected" if item == "bad" else "done", "not wanted" * (item == "bad"))


def test_items_keep_their_order_and_a_dead_process_takes_only_its_item():
    records = run_items("segment", ["a", "dies", "bad", "b"], make, jobs=2)
    assert [r.status for r in records] == ["done", "failed", "rejected", "done"]
    assert "killed" in records[1].reason
    assert print_records(records) == 1
    assert print_records(run_items("segment", ["a", "bad"], make)) == 0


def test_notes_reach_the_person_once_a_kind(capsys):
    notes = (["cut off: 2 s of 8.0 s are missing"], ["cut off: 3 s of 9.0 s are missing"], [])
    print_records([StageRecord("segment", f"v{i}", notes=value) for i, value in enumerate(notes)], "video")
    assert capsys.readouterr().out.splitlines() == [
        "note: 2 videos: cut off: 2 s of 8.0 s are missing (v0; numbers differ)",
        "3 done, 0 rejected, 0 failed, 0 as before",
    ]
