"""The jobs of a preset, what makes them stale, and numbers changed on the command line."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from experiments.learning.engine import FINETUNE, PRETRAIN
from experiments.learning.plan import digests, make_jobs
from experiments.learning.presets import PRESETS, PRETRAIN_ROWS, ROWS, SEEDS, Preset, changed
from lam3c_plugin.embedded.config import Config
from lam3c_plugin.errors import ConfigError

SMOKE = PRESETS["smoke"]


def by_id(preset: Preset, **kwargs) -> dict:
    return {job.id: job for job in make_jobs(preset, **kwargs)}


def stale(old: Preset, new: Preset) -> set[str]:
    """Jobs of the old plan that have to be done again, or are gone."""
    before, after = (digests(make_jobs(preset)) for preset in (old, new))
    return {name for name, digest in before.items() if after.get(name) != digest}


@pytest.mark.parametrize("name", PRESETS)
def test_every_job_comes_after_those_it_needs_and_once(name):
    seen = set()
    for job in make_jobs(PRESETS[name]):
        assert seen.issuperset(job.needs), job.id
        assert job.id not in seen
        seen.add(job.id)


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_every_row_of_the_table_has_all_seeds_and_the_same_budget(name):
    preset = PRESETS[name]
    jobs = by_id(preset).values()
    table = [job for job in jobs if job.kind == "pretrain" and not job.spec["curve"] and job.row != "collapsing"]
    assert len({(job.spec["steps"], job.spec["rooms"], job.spec["noise"]) for job in table}) == 1
    assert len({job.spec["options"]["batch_size"] for job in table}) == 1
    for row in {job.row for job in table}:
        assert sorted(job.spec["seed"] for job in table if job.row == row) == list(preset.seeds)
    tuned = [job for job in jobs if job.kind == "finetune"]
    assert len(tuned) == len(preset.finetune_rows) * len(preset.seeds) * len(preset.shares)
    assert len({job.spec["steps"] for job in tuned}) == 1
    last = [job for job in jobs if job.kind == "probe" and job.spec["last"] and not job.spec["curve"]]
    assert len(last) == (len({job.row for job in table}) + 1) * len(preset.seeds)  # and random


def test_the_gpu_preset_has_all_rows_and_the_issues_curves():
    preset = PRESETS["gpu"]
    jobs = by_id(preset)
    assert {job.row for job in jobs.values() if job.kind != "data"} == set(ROWS)
    for name in ("full-rooms50-0", "full-rooms800-0", "full-clean-0", "full-mild-0", "full-worse-0"):
        assert jobs[name].kind == "pretrain"
    assert jobs["data-pretrain-pi3"].spec["rooms"] == 800  # the table's lie within


def test_no_two_sets_share_a_generator_seed():
    assert len(set(SEEDS.values())) == len(SEEDS)
    sets = [job.spec for job in make_jobs(PRESETS["gpu"]) if job.kind == "data"]
    assert {(spec["set"], spec["seed"]) for spec in sets} == set(SEEDS.items())


def test_more_rooms_leave_what_is_done_with_fewer():
    more = replace(SMOKE, curve_rooms=(2, 9))
    assert stale(SMOKE, more) == {"data-pretrain-pi3"}


def test_a_number_makes_stale_what_depends_on_it():
    assert stale(SMOKE, replace(SMOKE, finetune_steps=3)) == {n for n in by_id(SMOKE) if n.startswith("finetune")}
    probed = {n for n in by_id(SMOKE) if n.startswith(("probe", "finetune"))}  # a fine-tuning starts from a probe
    assert stale(SMOKE, replace(SMOKE, probe_steps=11)) == probed
    options = {**SMOKE.pretrain_options, "model.momentum_base": 0.5}
    again = stale(SMOKE, replace(SMOKE, pretrain_options=options))
    assert "full-0" in again
    assert "probe-full-0-4" in again  # through the job it needs
    assert "finetune-scratch-0-100" in again  # from the random weights of the same network
    denser = stale(SMOKE, replace(SMOKE, room_points=1600))
    assert denser == set(by_id(SMOKE)) - {"random-0", "random-1"}


def test_another_config_makes_stale(monkeypatch):
    before = digests(make_jobs(SMOKE))
    monkeypatch.setattr("experiments.learning.plan.recipe", lambda config: "other")
    after = digests(make_jobs(SMOKE))
    assert {name for name in before if before[name] == after[name]} == {n for n in before if n.startswith("data")}


def test_only_some_rows():
    jobs = by_id(SMOKE, only=["scratch"])
    assert {job.row for job in jobs.values() if job.kind != "data"} == {"scratch", "random"}  # its weights
    assert "data-pretrain-pi3" not in jobs
    with pytest.raises(ConfigError, match=r"--only clusterin: .* did you mean 'clustering'"):
        make_jobs(SMOKE, ["clusterin"])


@pytest.mark.parametrize("row", PRETRAIN_ROWS)
def test_options_of_rows_name_settings_that_the_config_has(row):
    """A slip would make a new key that nothing reads, and the row another one's double."""
    config = Config.fromfile(PRETRAIN)
    options = PRETRAIN_ROWS[row]({})
    for key, value in options.items():
        node = config
        for part in key.split("."):
            assert part in node, key
            node = node[part]
        assert node != value, f"{row}: {key} is {value} already"
    assert bool(options) == (row != "full")


@pytest.mark.parametrize("name", PRESETS)
def test_options_of_presets_reach_the_configs(name):
    preset = PRESETS[name]
    config = Config.fromfile(PRETRAIN)
    config.merge_from_dict(preset.pretrain_options)
    assert config.hooks[6].type == "CollapseMonitor"
    assert config.hooks[-1].type == "CheckpointSaver"  # pretrain.py sets its save_freq_steps
    config = Config.fromfile(FINETUNE)
    config.merge_from_dict({**preset.finetune_options, **preset.scratch_options})
    assert config.param_dicts[0].lr == config.scheduler.max_lr[1]
    assert config.hooks[0].type == "CheckpointLoader"  # finetune.start writes encoder and head


def test_the_released_row_squares_the_distances_in_force():
    plain = PRETRAIN_ROWS["released"]({})
    assert plain == {"model.laplacian_loss.max_distance": 0.0256, "model.match_max_r": 0.1024}
    config = Config.fromfile(PRETRAIN)
    assert config.model.laplacian_loss.max_distance**2 == pytest.approx(plain["model.laplacian_loss.max_distance"])
    assert config.model.match_max_r**2 == pytest.approx(plain["model.match_max_r"])
    assert PRETRAIN_ROWS["released"]({"model.match_max_r": 0.5})["model.match_max_r"] == 0.25


def test_numbers_from_the_command_line():
    settings = ["pretrain_steps=9", "seeds=4", "shares=(0.5,1.0)", "pretrain_options.model.momentum_base=0.9"]
    preset = changed(SMOKE, settings)
    assert (preset.pretrain_steps, preset.seeds, preset.shares) == (9, (4,), (0.5, 1.0))
    assert preset.pretrain_options == {"batch_size": 2, "model.momentum_base": 0.9}
    assert SMOKE.pretrain_options == {"batch_size": 2}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("room=3", "did you mean 'rooms'"),
        ("rooms", "give NAME=VALUE"),
        ("rooms=many", "is of the kind of 3"),
        ("rooms.x=1", "rooms has no options of its own"),
        ("rows=(random,full-crossed)", "no row 'full-crossed'"),
        ("curve_steps=4", "must lie between 0 and pretrain_steps=4"),
        ("rooms=0", "rooms=0 must be at least 1"),
        ("name=cpu", "give NAME=VALUE"),
    ],
)
def test_wrong_numbers_are_named(setting, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        changed(SMOKE, [setting])


def test_settings_are_checked_together_not_one_by_one():
    preset = changed(PRESETS["cpu"], ["pretrain_steps=200", "curve_steps=100"])
    assert (preset.pretrain_steps, preset.curve_steps) == (200, (100,))
