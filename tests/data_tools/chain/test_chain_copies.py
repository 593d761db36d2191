"""Near-duplicates: one of them is made, whichever worker is quicker; fake stages with embeddings of pretended rooms."""

import json

import numpy as np
import pytest

from data_tools.chain import copies, run
from data_tools.chain.items import Places
from data_tools.chain.plan import ChainSettings
from data_tools.chain.recorded import Settings
from data_tools.chain.run import RunOptions, run_chain
from data_tools.chain.sources import in_shard, read_videos
from tests.data_tools.chain import chain_fakes
from tests.data_tools.chain.chain_fakes import CALLS, FAKES, fake_settings, looks
from tests.data_tools.chain.chain_run import InProcess, calls_made, make_videos, states

ALIKE = 0.92


class Ordered(InProcess):
    """Does first what comes first in ``order``; what is not in it, in the order that it came."""

    def __init__(self, functions, order):
        super().__init__(functions)
        self.order = order

    def wait(self, seconds):
        rank = {name: number for number, name in enumerate(self.order)}
        self.calls.sort(key=lambda call: rank.get(call.name, len(rank)))
        return super().wait(seconds)


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """The chain over a folder of videos: gives the names of finished scenes, and calls by stage."""
    (tmp_path / "calls").mkdir()
    monkeypatch.setenv(CALLS, str(tmp_path / "calls"))
    out = tmp_path / "out"

    def go(order=(), least=ALIKE, shard=None, **texts):
        monkeypatch.setattr(run, "build_executor", lambda options, places, functions: Ordered(functions, order))
        videos, _ = read_videos([str(make_videos(tmp_path / "videos", **texts))])
        videos = in_shard(videos, shard) if shard else videos
        settings = ChainSettings(Settings.of(fake_settings()), copies=least)
        options = RunOptions(report=False, quiet=True, alike=3, shard=shard)
        run_chain(videos, Places(out, out / "_work"), settings, options, FAKES)
        return sorted(path.name for path in out.glob("train/*")), calls_made(tmp_path / "calls")

    go.out = out
    return go


def test_the_same_footage_is_alike_and_another_room_is_not():
    one, copy = looks(1), looks(1, is_marked=True)
    assert (one * copy).sum(1).mean() == pytest.approx(0.97, abs=0.015)
    assert copies.count_alike(one, copy, ALIKE) == 16
    assert copies.count_alike(one[:-1], copy[1:], ALIKE) == 15  # cut a sixteenth later
    assert copies.count_alike(one, looks(2), ALIKE) < 4
    assert copies.count_alike(one, one[::-1], ALIKE) < 8  # the same room, filmed the other way round
    assert float(copies.sketch(one) @ copies.sketch(copy)) == pytest.approx(float((one * copy).sum(1).mean()), abs=0.02)


@pytest.mark.parametrize("order", [(), ("c", "b", "a"), ("b", "b_000", "b_001", "c", "a")])
def test_of_two_copies_the_first_is_made_whoever_is_quicker(chain, order):
    tours = {"a": "room 2 1 shows:1", "b": "room 2 2 shows:1 marked", "c": "room 2 3 shows:2"}
    done, made = chain(order, **tours)
    assert done == ["a_000", "a_001", "c_000", "c_001"]
    assert made == {"segment": 3, "reconstruct": 4, "postprocess": 4}
    row = states(chain.out)["b_001", "reconstruct"]
    assert (row.status, row.permanent) == ("rejected", True)
    assert row.reason == "near-duplicate of train/a_001: 16 of 16 frames are alike"
    assert not chain(order, **tours)[1]  # settled
    assert chain(least=0.0)[0] == ["a_000", "a_001", "b_000", "b_001", "c_000", "c_001"]
    assert not chain()[1]  # what is finished stays


def test_a_video_that_fails_or_has_no_room_lets_nobody_past_those_before_it(chain):
    tours = {"a": "room 1 1 shows:1", "b": "no-room", "c": "room 1 2 same:broken", "d": "room 1 3 shows:1"}
    assert chain(("c", "b", "d", "d_000", "a"), **tours)[0] == ["a_000"]


def test_a_copy_is_made_where_its_original_came_to_nothing(chain):
    done, made = chain(a="room 1 1 shows:1 reject:0", b="room 1 2 shows:1", c="room 1 3 shows:1")
    assert done == ["b_000"]
    assert made["reconstruct"] == 2


def test_a_copy_of_what_an_earlier_run_made_or_lost(chain):
    chain(b="room 1 1 shows:1")
    assert chain(a="room 1 2 shows:1")[0] == ["b_000"]
    meta = chain.out / "train/b_000/meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "intervals": [[3, 9]]}))  # is another now
    assert chain(c="room 1 3 shows:1")[0] == ["b_000", "c_000"]
    for path in [*meta.parent.iterdir()]:
        path.unlink()
    meta.parent.rmdir()
    (chain.out.parent / "videos/b.mp4").unlink()
    assert chain()[0] == ["c_000"]  # a, left out for b, is now compared with what there is
    assert "of train/c_000" in states(chain.out)["a_000", "reconstruct"].reason


def test_scenes_of_one_video_are_compared_where_they_lie_apart(chain, monkeypatch):
    monkeypatch.setattr(chain_fakes, "looks", lambda seed, is_marked: looks(seed[0]))  # all scenes of a video alike
    assert chain(a="room 4 1 shows:1")[0] == ["a_000", "a_001"]  # 2 s part neighbours, 12 s the first and the third


def test_scenes_wait_neither_for_a_video_that_is_stuck_nor_for_one_that_fails(chain):
    bad = {name: f"room 1 {name} same:broken passing" for name in "bde"}
    order = ("c", "b", "d", "e", "a", "f")  # the stage stops: a and f are left for the next run, c waits for b
    done, _ = chain(order, a="room 1 1", c="room 1 3 shows:1", f="room 1 4 shows:1", **bad)
    assert done == ["c_000"]
    assert chain(("f",), **dict.fromkeys(bad, "room 1 9"))[0] == ["a_000", "b_000", "c_000", "d_000", "e_000"]


def test_shards_see_their_own_and_the_run_over_all_names_the_rest(chain, capsys):
    tours = {name: f"room 1 {name} shows:1" for name in "fghi"}  # f is of the other part
    for number in (0, 1):
        done, _ = chain(shard=(number, 2), **tours)
        assert len(done) == number + 1
    chain()
    assert "1 finished scenes are near-duplicates of others" in capsys.readouterr().out
    first, second = sorted(path.name for path in chain.out.glob("train/*"))
    assert (chain.out / "_work/copies.tsv").read_text() == f"{second}\t{first}\t16\n"


def test_scenes_without_embeddings_are_made_and_told(chain, capsys):
    assert chain(a="room 1 1", b="room 1 1 marked")[0] == ["a_000", "b_000"]
    assert "2 scenes have no embeddings" in capsys.readouterr().out
    folder = chain.out / "_work/segments/a"
    np.save(folder / "looks.npy", np.zeros((3, 16, 64), np.float16))  # of other scenes
    assert chain(c="room 1 1 shows:1")[0] == ["a_000", "b_000", "c_000"]
