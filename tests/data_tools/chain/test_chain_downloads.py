"""Downloads in the chain: one patience for the run, and nothing used up when it stops."""

import pytest

from data_tools.chain import stages
from data_tools.collection import fetch
from data_tools.collection.settings import CollectSettings
from tests.data_tools.chain import chain_fakes
from tests.data_tools.chain.chain_run import run_here, states
from tests.data_tools.collection.test_collect_queue import BOT, NETWORK, FakeDL, ids

REAL = chain_fakes.fake_settings


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """The chain with the real collect stage; returns (run, fake downloader)."""
    fake = FakeDL({}, b"room 1 7")
    manners = CollectSettings(pause=0.01, pause_max=0.02, network_pause=0.05, pauses=2)
    monkeypatch.setattr(chain_fakes, "fake_settings", lambda *args: {**REAL(*args), "collect": manners})
    monkeypatch.setitem(chain_fakes.FAKES.functions, "collect", stages.collect)
    monkeypatch.setattr(fetch, "youtube_dl", fake)
    monkeypatch.setattr(fetch, "_facts", lambda file: {"bytes": file.stat().st_size})
    monkeypatch.setattr("data_tools.chain.engine.IDLE_SECONDS", 0.01)

    def run(count):
        manifest = tmp_path / "list.csv"
        rows = [f"{name},https://www.youtube.com/watch?v={name}" for name in ids(count)]
        manifest.write_text("\n".join(["video_id,url", *rows]) + "\n")
        return run_here(monkeypatch, manifest, "--out", tmp_path / "out")

    return run, fake


def scenes(tmp_path):
    return len(list((tmp_path / "out/train").glob("*")))


def test_a_network_that_is_gone_makes_the_queue_wait_then_stop(chain, tmp_path, capsys):
    run, fake = chain
    fake.script |= {name: [NETWORK] * 99 for name in ids(12)[2:]}
    assert run(12) == 1
    said = capsys.readouterr().err
    assert "still refused after 2 waits" in said
    assert "(10 videos wait)" in said
    assert "downloads wait 0 min: network" in said
    assert len(fake.asked) == 2 + 9
    assert scenes(tmp_path) == 2  # the other stages went on
    assert not [row for row in states(tmp_path / "out").values() if row.status != "done"]  # nothing is used up
    fake.script.clear()
    assert run(12) == 0
    assert scenes(tmp_path) == 12


def test_a_network_that_comes_back_costs_nothing(chain, tmp_path):
    run, fake = chain
    fake.script |= {name: [NETWORK] for name in ids(3)}
    assert run(5) == 0
    assert scenes(tmp_path) == 5


def test_a_rate_limit_is_waited_out_at_the_same_video(chain, tmp_path):
    run, fake = chain
    fake.script |= {ids(2)[0]: [BOT, BOT]}
    assert run(2) == 0
    assert fake.asked == [ids(2)[0]] * 3 + [ids(2)[1]]


def test_equal_answers_in_a_row_stop_the_downloads_and_write_off_nothing(chain, tmp_path, capsys):
    run, fake = chain
    fake.script |= {name: ["Private video"] for name in ids(25)[1:]}
    assert run(25) == 1
    assert "20 answers in a row were alike" in capsys.readouterr().err
    assert len(fake.asked) == 21
    assert not [row for row in states(tmp_path / "out").values() if row.status != "done"]
    fake.script.clear()
    assert run(25) == 0
    assert scenes(tmp_path) == 25


def test_equal_answers_count_on_where_a_run_was_killed(chain, tmp_path, monkeypatch, capsys):
    run, fake = chain
    fake.script |= {name: ["Private video"] for name in ids(40)[1:]}

    with monkeypatch.context() as patch:
        patch.setattr("data_tools.chain.engine.Engine._counts", _dies_after(15))
        assert run(40) == 130
    assert len(fake.asked) == 16
    assert run(40) == 1
    assert "20 answers in a row were alike" in capsys.readouterr().err
    assert len(fake.asked) == 16 + 6  # 14 of the first run count; its last answer came with the kill
    assert [row.name for row in states(tmp_path / "out").values() if row.status != "done"] == [ids(40)[15]]


def _dies_after(most):
    from data_tools.chain.engine import Engine

    real, left = Engine._counts, [most]

    def counts(self, outcome):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt  # the run ends without its end, as by a kill
        return real(self, outcome)

    return counts
