"""``experiments/learning``: paired runs, measures with known answers, verdicts, and one command that resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.learning import measure, report, results, rooms, run, verdicts, work
from experiments.learning.plan import MAP_RATES, PRESETS, SEEDS, TRAINED, Job, changed, make_jobs
from experiments.learning.train import Runs, collapsed, recipe
from lam3c_plugin.errors import ConfigError, DataError

CPU = torch.device("cpu")
SMOKE = replace(PRESETS["smoke"], points=600, view_points=300)
PREREGISTERED = Path(run.__file__).with_name("preregistration.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rooms")
    for room in rooms.every(SMOKE):
        rooms.make(room, folder, SMOKE)
    return folder


def job(rows=tuple(TRAINED), seed=3, steps=2, **options) -> Job:
    return Job("table", "pi3", seed, rows, tuple(options.items()), SMOKE, steps)


# ---- pairs ---------------------------------------------------------------------------------------------------------


def test_rows_of_a_seed_start_alike_and_see_the_same(made):
    runs = Runs(job(), made, CPU)
    first = runs.rows["clustering"].model.state_dict()
    for other in runs.rows.values():
        assert all(torch.equal(value, first[key]) for key, value in other.model.state_dict().items())
    batch = runs.batch(0)
    again = Runs(job(rows=("full",)), made, CPU).batch(0)
    assert all(torch.equal(value, again[key]) for key, value in batch.items() if isinstance(value, torch.Tensor))
    losses = {row: one.step(0, batch) for row, one in runs.rows.items()}
    for name in ("mask_loss", "roll_mask_loss", "unmask_loss"):  # the masks, too: all that a row does not change
        assert len({float(found[name]) for found in losses.values()}) == 1
    assert {row: ("laplacian_loss" in found, "consistency_loss" in found) for row, found in losses.items()} == {
        "clustering": (False, False),
        "laplacian": (True, False),
        "consistency": (False, True),
        "full": (True, True),
    }
    assert not torch.equal(batch["global_coord"], Runs(job(seed=4), made, CPU).batch(0)["global_coord"])


def test_a_row_does_not_depend_on_its_neighbours_nor_on_a_kill(made, tmp_path):
    together = Runs(job(("clustering", "full")), made, CPU)
    together.train()
    half = Runs(job(("full",)), made, CPU, tmp_path / "state.pth")
    half.rows["full"].step(0, half.batch(0))
    half.done = 1
    torch.save({"digest": half.job.digest, "step": 1, "rows": {"full": half.rows["full"].state()}}, half.save)
    torch.randn(5)  # generators elsewhere
    resumed = Runs(job(("full",)), made, CPU, tmp_path / "state.pth")
    assert resumed.done == 1
    resumed.train()
    left, right = (one.rows["full"].model.state_dict() for one in (together, resumed))
    assert all(torch.equal(value, right[key]) for key, value in left.items())
    assert [len(one.rows["full"].health) for one in (together, resumed)] == [2, 2]


def test_rows_only_switch_terms_off_and_a_cell_changes_all_rates():
    plain = recipe(job(), "full").to_dict()
    for row, options in TRAINED.items():
        changed_ = recipe(job(), row).to_dict()
        assert changed_["optimizer"] == plain["optimizer"]
        different = {key for key, value in changed_["model"].items() if value != plain["model"][key]}
        assert different == {key.removeprefix("model.") for key in options}
        assert all(value == 0 for value in options.values())
    faster = recipe(job(rate=0.003), "full")
    assert faster.optimizer.lr == pytest.approx(0.003)
    ratios = np.array(faster.scheduler.max_lr) / plain["scheduler"]["max_lr"]
    np.testing.assert_allclose(ratios, 3)


def test_collapse_by_the_registered_rule():
    first = {"rank": 160.0, "spread": 0.9, "finite": True, "loss": 4.0}
    assert not collapsed([first, {**first, "rank": 11.0}])
    assert collapsed([first, {**first, "rank": 9.9}])
    assert collapsed([first, {**first, "spread": 0.019}])
    assert collapsed([first, {**first, "loss": float("nan")}])
    assert collapsed([first, {**first, "finite": False}])


# ---- the plan ------------------------------------------------------------------------------------------------------


def test_the_plan_is_what_was_registered():
    jobs = make_jobs(replace(PRESETS["gpu"], steps=100))
    table = [item for item in jobs if item.kind == "table"]
    assert sorted((item.noise, item.seed) for item in table) == [
        *(("pi3", seed) for seed in range(10)),
        *(("worse", seed) for seed in range(5)),
    ]
    assert [item.noise for item in table[:6]].count("worse") == 2  # cut off, both levels have whole seeds
    cells = [item for item in jobs if item.kind == "map"]
    assert jobs == table + cells
    assert len(cells) == len({item.id for item in cells}) == 24
    assert {item.steps for item in cells} == {40}
    assert {item.rows for item in cells} == {("clustering", "full")}
    for number in (*SEEDS.values(), *(f"{rate:g}" for rate in MAP_RATES)):
        assert str(number) in PREREGISTERED
    settings = PRESETS["gpu"]
    for words in (f"{settings.rooms} rooms", f"{settings.train_rooms} clean", f"{settings.test_rooms} are scored"):
        assert words in PREREGISTERED


def test_digests_change_with_what_figures_depend_on():
    assert job().digest == job().digest
    others = [job(steps=3), job(seed=4), job(rows=("full",)), replace(job(), settings=replace(SMOKE, bank=501))]
    assert len({item.digest for item in (job(), *others)}) == 5
    more = replace(job(), settings=replace(SMOKE, seeds=(("pi3", 9),)))
    assert more.digest == job().digest  # more seeds leave what is done


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("room=3", "did you mean 'rooms'"),
        ("rooms", "give NAME=VALUE"),
        ("rooms=many", "of the kind"),
        ("rooms=0", "at least 1"),
    ],
)
def test_wrong_numbers_are_named(word, error):
    with pytest.raises(ConfigError, match=error):
        changed(SMOKE, [word])


# ---- measures ------------------------------------------------------------------------------------------------------


def test_two_reconstructions_share_surface_points_and_nothing_else(made):
    a, b = (rooms.read(rooms.Room("test", 0, "pi3", draw), made, SMOKE) for draw in (0, 1))
    left, right = measure.common_points(a, b, 40)
    assert len(left) == 40
    np.testing.assert_array_equal(a.surface[left], b.surface[right])
    np.testing.assert_array_equal(a.segment[left], b.segment[right])
    apart = np.linalg.norm(a.columns[0][left] - b.columns[0][right], axis=1)
    assert 0.001 < np.median(apart) < 0.2  # metres: the noise of both


def test_agreement_of_perfect_and_of_constant_features(made):
    pair = [[rooms.read(rooms.Room("test", i, "pi3", draw), made, SMOKE) for i in (0, 1)] for draw in (0, 1)]
    codes = np.random.default_rng(0).normal(size=(100_000, 32)).astype(np.float32)

    def by_surface(cloud):
        feat = np.empty((len(cloud.raw), 32), np.float32)
        feat[cloud.cell] = codes[cloud.surface]
        return feat

    perfect = measure.agreement(*pair, *[[by_surface(c) for c in column] for column in pair], 40, CPU)
    shuffled = measure.agreement(
        *pair,
        *[[codes[i + 7 * n :][: len(c.raw)] for i, c in enumerate(column)] for n, column in enumerate(pair)],
        40,
        CPU,
    )
    assert perfect["retrieval"] > 0.8  # points of a shared cell have one code
    assert perfect["transfer"] > 0.8
    assert shuffled["retrieval"] < 0.2


def test_probes_find_labels_in_features_that_hold_them(made):
    probing = measure.Probing(made, SMOKE, "pi3", 0, CPU)

    def told(cloud):
        feat = np.zeros((len(cloud.raw), 24), np.float32)
        feat[cloud.cell, cloud.segment] = 1.0
        return feat

    best, raw = probing.all(told), probing.all(measure.raw)
    for name in ("linear", "linear_noisy", "knn", "knn_noisy"):
        assert best[name] > 0.75 > raw[name] > 0  # cells hold two classes, few points train
    assert probing.clean(told)["linear"] == best["linear"]
    assert set(best) == {
        *(f"{p}{n}" for p in ("linear", "knn") for n in ("", "_noisy")),
        "retrieval",
        "transfer",
        "decay",
        "linear_val",
    }


# ---- verdicts ------------------------------------------------------------------------------------------------------


def test_verdicts_of_paired_differences():
    seeds = range(10)
    base = {seed: 40.0 + 3 * seed for seed in seeds}  # a wide spread over seeds, which pairs take out
    above = verdicts.Difference.of({s: v + 1 + 0.1 * (s % 3) for s, v in base.items()}, base)
    assert above.interval.verdict() == "better"
    assert (above.above, above.below, above.p) == (10, 0, pytest.approx(2 / 1024))
    below = verdicts.Difference.of(base, {s: v + 1 for s, v in base.items()})
    assert below.interval.verdict() == "worse"
    either = verdicts.Difference.of({s: v + (-1) ** s for s, v in base.items()}, base)
    assert either.interval.verdict() == "not shown"
    assert either.p == 1.0
    assert verdicts.Difference.of({0: 1.0}, {0: 2.0, 1: 3.0}) is None
    assert above.interval.verdict(10.0) == "worse"
    assert verdicts.sign_test(1, 8) == pytest.approx(20 / 512)


def test_bootstrap_is_the_normal_interval_for_many_seeds():
    values = np.random.default_rng(1).normal(2.0, 1.0, 400)
    found = verdicts.bootstrap(400, lambda rows: values[rows].mean(-1))
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


# ---- the page ------------------------------------------------------------------------------------------------------


def test_page_says_what_the_committed_results_say():
    committed, why = results.read(results.RESULTS), results.read(report.WHY)
    page = report.PAGE.read_text(encoding="utf-8")
    assert report.fill(page, report.parts(committed["jobs"], why)) == page, "run experiments/learning/report.py"
    assert len(page.splitlines()) <= 200
    readme, headline = report.README.read_text(encoding="utf-8"), report.first_answers(committed["jobs"])
    assert report.fill(readme, {"headline": headline}) == readme, "run experiments/learning/report.py"
    planned = {item.id: item.digest for item in make_jobs(replace(PRESETS["gpu"], steps=50))}
    table = {key: job["digest"] for key, job in committed["jobs"].items() if key.startswith("table-")}
    assert table.items() <= planned.items()  # the table is that of the plan as it stands


def file_of(**rows) -> dict:
    """A file of one job and its figures."""
    entry = {"digest": "d", "machine": "m", "seconds": 1.0, "rows": rows}
    settings = {"rooms": 2, "steps": 20, "map_share": 0.4, "seeds": [], "map_seeds": 0}
    return {"settings": settings, "runs": [{"commit": "c"}, {"commit": "c"}], "jobs": {"map-pi3-0.001-64-0.9-0": entry}}


def test_join_keeps_commit_and_steps_and_refuses_a_job_twice():
    first = results.join({}, file_of(full={"linear": 0.3}), "a")
    job_ = first["jobs"]["map8-pi3-0.001-64-0.9-0"]
    assert (job_["commit"], job_["steps"], job_["machine"]) == ("c", 8, "m")
    assert results.join(first, file_of(full={"linear": 0.3}), "a") == first
    with pytest.raises(DataError, match=r"b: map8-.* is there already with other figures"):
        results.join(first, file_of(full={"linear": 0.4}), "b")
    longer = file_of(full={"linear": 0.4})
    longer["settings"]["steps"] = 50
    assert results.map_lengths(results.join(first, longer, "c")["jobs"]) == [20, 8]
    other = file_of()
    other["settings"]["rooms"] = 3
    with pytest.raises(DataError, match="b: was made with other settings"):
        results.join(first, other, "b")
    with pytest.raises(DataError, match="marked parts"):
        report.fill("<!-- results: map -->\n<!-- end -->", {"why": ""})


def test_a_run_of_the_map_fails_by_collapse_or_by_its_score():
    whole, low, broken = (
        {"linear": 0.3, "collapsed": False},
        {"linear": 0.219, "collapsed": False},
        {"collapsed": True},
    )
    for clustering, full, failed in ((whole, low, (False, True)), (broken, whole, (True, False))):
        jobs = results.join({}, file_of(random={"linear": 0.2}, clustering=clustering, full=full), "a")["jobs"]
        (found,) = results.map_runs(jobs, 8).values()
        assert tuple(found["failed"].values()) == failed


# ---- the command ---------------------------------------------------------------------------------------------------


def fake_job(item, folder, device):
    if (folder / "broken").exists() and item.seed == 1:
        raise ValueError("the roof\nleaks")
    with (folder / "diary").open("a") as file:
        file.write(item.id + "\n")
    return {"digest": item.digest, "machine": "m", "seconds": 1.0, "rows": {"full": {"linear": 0.3 + 0.01 * item.seed}}}


class Here:
    """A worker in this process: the pool's own loop, without a minute of imports."""

    def __init__(self, context, folder, device):
        self.folder, self.task = folder, None
        import multiprocessing

        self.connection, self.theirs = multiprocessing.Pipe()
        self.process = type("Process", (), {"terminate": lambda self: None, "join": lambda self, t=None: None})()

    def give(self, task):
        self.task = task
        name, given = task[1]
        try:
            self.theirs.send(("done", work.TASKS[name](given, self.folder, CPU)))
        except ValueError as error:
            self.theirs.send(("failed", " ".join(str(error).split())))

    def take(self):
        task, self.task = self.task, None
        return task, *self.connection.recv()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(run, "_Worker", Here)
    monkeypatch.setitem(work.TASKS, "job", fake_job)
    monkeypatch.setitem(work.TASKS, "rooms", lambda given, folder, device: 0)
    monkeypatch.setitem(work.TASKS, "trial", lambda given, folder, device: {"step": 0.25, "probe": 2.0})


def read(out: Path) -> dict:
    return json.loads((out / run.FILE).read_text())


def test_a_failed_job_is_named_the_rest_goes_on_and_the_command_resumes(quick, tmp_path, capsys):
    (tmp_path / "broken").touch()
    command = ["--preset", "smoke", "--out", str(tmp_path), "--device", "cpu", "--set", "map_seeds=1"]
    assert run.main(command) == 1
    assert "table-pi3-1: FAILED: the roof leaks" in capsys.readouterr().out
    assert len(read(tmp_path)["jobs"]) == 14
    (tmp_path / "broken").unlink()
    (tmp_path / "diary").unlink()
    assert run.main(command) == 0
    assert (tmp_path / "diary").read_text() == "table-pi3-1\n"
    found = read(tmp_path)
    assert len(found["runs"]) == 2
    assert found["jobs"]["table-pi3-1"]["rows"]["full"]["linear"] == 0.31
    with pytest.raises(DataError, match="other settings; give another --out"):
        run.main([*command[:-1], "rooms=2"])


def test_steps_fill_the_time_and_are_kept(quick, tmp_path, capsys):
    command = ["--preset", "gpu", "--out", str(tmp_path), "--device", "cpu", "--workers", "15", "--minutes", "8"]
    assert run.main(command) == 0
    steps = read(tmp_path)["settings"]["steps"]
    # 15 seeds at once (4 rows, 6 probes), then 24 runs of two rows in two turns: within three quarters of the time
    assert 200 <= steps < 300
    assert 4 * steps * 0.25 + 6 * 2 + 2 * (0.8 * steps * 0.25 + 3 * 0.6) <= 0.75 * 480
    assert run.main([*command[:-1], "0.001"]) == 0  # nothing is left to do, and no other steps are chosen
    assert read(tmp_path)["settings"]["steps"] == steps
    with pytest.raises(ConfigError, match="give --minutes, or --set steps=N"):
        run.main([*command[:3], str(tmp_path / "b"), "--device", "cpu"])


def test_no_job_starts_that_would_not_be_done(quick, tmp_path):
    command = ["--preset", "gpu", "--out", str(tmp_path), "--device", "cpu", "--set", "steps=20", "--minutes"]
    results = {"version": run.VERSION, "settings": json.loads(json.dumps(vars(PRESETS["gpu"]) | {"steps": 20}))}
    rates = {"rates": {"step": 0.2, "probe": 2.0}, "runs": [], "jobs": {}}  # 28 s a seed of the table, 5 s a map's run
    (tmp_path / run.FILE).write_text(json.dumps(results | rates))
    assert run.main([*command, "0.2"]) == run.TIME_IS_UP
    assert {name.split("-")[0] for name in read(tmp_path)["jobs"]} == {"map"}


@pytest.mark.slow
def test_the_command_with_real_processes(tmp_path):
    words = ["seeds=(('pi3',1),)", "map_seeds=0", "points=600", "view_points=300", "steps=1"]
    assert run.main(["--preset", "smoke", "--out", str(tmp_path), "--device", "cpu", "--set", *words]) == 0
    rows = read(tmp_path)["jobs"]["table-pi3-0"]["rows"]
    assert set(rows) == {"raw", "random", *TRAINED}
    assert all(0 < row["linear"] < 1 for row in rows.values())
