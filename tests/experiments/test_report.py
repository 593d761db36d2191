"""The tables of the learning proof: numbers, verdicts and pictures out of a results file."""

from __future__ import annotations

from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np
import pytest

from experiments.learning.monitor import Curves
from experiments.learning.presets import COLLAPSING, SEEDS
from experiments.learning.report import table, write
from experiments.learning.scores import Results
from experiments.learning.verdicts import NO, NOT_RUN, UNDECIDED, YES, verdicts
from lam3c_plugin.errors import DataError
from tests.experiments import made


def answers(folder: Path, data: dict[str, Any]) -> list[str]:
    return [verdict.answer for verdict in verdicts(Results(made.save(folder, data)))]


def scale(data: dict[str, Any], kind: str, row: str, m_iou: list[float]) -> None:
    """Give the row's entries the scores, by seed."""
    for entry in data[kind]:
        if entry["row"] == row:
            entry["m_iou"] = m_iou[entry["seed"]]


# ---- numbers -----------------------------------------------------------------------------------------------------


def test_scores_are_mean_and_sample_deviation_in_points(tmp_path: Path) -> None:
    data = made.results()
    scale(data, "probe", "full", [0.30, 0.34, 0.44])
    score = Results(made.save(tmp_path, data)).probe("full")
    assert score is not None
    assert score.mean == pytest.approx(36.0)
    assert score.spread == pytest.approx(stdev([30.0, 34.0, 44.0]))
    assert str(score) == "36.0 ± 7.2"


def test_the_table_takes_the_setting_most_runs_share_and_the_test_split(tmp_path: Path) -> None:
    data = made.results()
    data["pretrain"] += [made.pretrain("full", 0, rooms=50), made.pretrain("full", 0, noise="clean")]
    data["probe"] += [
        made.probe("full", 0, 0.99, rooms=50),
        made.probe("full", 0, 0.99, noise="clean"),
        made.probe("full", 0, 0.99, split="val"),
        made.probe("full", 0, 0.99, step=50),
        made.probe("full", 0, 0.99, share=0.1),
    ]
    results = Results(made.save(tmp_path, data))
    assert (results.main.rooms, results.main.noise, results.main.steps) == (made.ROOMS, "pi3", made.STEPS)
    assert results.probe("full").mean == pytest.approx(40.0)


def test_curves_by_axis_hold_only_what_differs_in_it(tmp_path: Path) -> None:
    data = made.results()
    for rooms, m_iou in ((400, 0.5), (50, 0.3)):
        data["pretrain"].append(made.pretrain("full", 0, rooms=rooms))
        data["probe"].append(made.probe("full", 0, m_iou, rooms=rooms))
    data["pretrain"] += [made.pretrain("full", 0, noise="clean"), made.pretrain("full", 0, noise="worse")]
    data["probe"] += [made.probe("full", 0, 0.42, noise="clean"), made.probe("full", 0, 0.2, noise="worse")]
    data["probe"] += [made.probe("full", 0, 0.25, split="val", step=step) for step in (50, 100, 200)]
    results = Results(made.save(tmp_path, data))
    split, rooms = results.curves("rooms")
    assert split == "test"
    assert [(value, round(point.mean, 6)) for value, point in rooms["full"].items()] == [(50, 30), (100, 39), (400, 50)]
    assert list(results.curves("noise")[1]["full"]) == ["clean", "pi3", "worse"]
    split, steps = results.curves("step")
    assert split == "val"
    assert list(steps["full"]) == [50, 100, 200]
    assert "clustering" not in steps


def test_iou_of_a_class_that_never_occurs_is_none(tmp_path: Path) -> None:
    iou = Results(made.save(tmp_path, made.results())).class_iou("full")
    assert iou[-1] is None
    assert iou[0] == pytest.approx(40.0)


# ---- verdicts ----------------------------------------------------------------------------------------------------


def test_verdicts_on_clear_numbers(tmp_path: Path) -> None:
    assert answers(tmp_path, made.results()) == [YES, YES, YES, NOT_RUN]


@pytest.mark.parametrize(
    ("full", "answer"),
    [
        ([0.31, 0.32, 0.33], YES),  # +12.0, twice the spread is 2.8
        ([0.28, 0.29, 0.30], NO),  # +9.0: not ten points
        ([0.15, 0.32, 0.49], NO),  # +12.0, but the seeds differ by more
    ],
)
def test_ten_points_over_random_and_beyond_the_spread(tmp_path: Path, full: list[float], answer: str) -> None:
    data = made.results()
    scale(data, "probe", "full", full)
    assert answers(tmp_path, data)[0] == answer


def test_few_labels_need_more_than_twice_the_spread(tmp_path: Path) -> None:
    data = made.results()
    scale(data, "finetune", "full", [0.31, 0.33, 0.35])
    scale(data, "finetune", "scratch", [0.29, 0.31, 0.33])
    assert answers(tmp_path, data)[1] == NO


def test_full_below_clustering_is_said_and_whether_it_means_anything(tmp_path: Path) -> None:
    data = made.results()
    scale(data, "probe", "full", [0.36, 0.37, 0.38])
    verdict = verdicts(Results(made.save(tmp_path, data)))[2]
    assert verdict.answer == UNDECIDED
    assert "37.0 ± 1.0 against 38.0 ± 1.0: -1.0" in verdict.figures
    assert "no difference is shown" in verdict.figures
    scale(data, "probe", "full", [0.20, 0.21, 0.22])
    verdict = verdicts(Results(made.save(tmp_path, data)))[2]
    assert verdict.answer == NO
    assert "no difference" not in verdict.figures


def test_more_rooms_compares_the_ends_of_the_curve(tmp_path: Path) -> None:
    data = made.results()
    data["pretrain"].append(made.pretrain("full", 0, rooms=400))
    data["probe"].append(made.probe("full", 0, 0.41, rooms=400))
    assert answers(tmp_path, data)[3] == YES
    data["probe"][-1]["m_iou"] = 0.385  # seed 0 has 39.0 with fewer rooms; that of all seeds is no measure for it
    assert answers(tmp_path, data)[3] == NO


def test_one_seed_gives_no_answer_where_the_spread_decides(tmp_path: Path) -> None:
    data = made.results()
    for kind in ("pretrain", "probe", "finetune"):
        data[kind] = [entry for entry in data[kind] if entry["seed"] == 0]
    assert answers(tmp_path, data)[:2] == [NOT_RUN, NOT_RUN]
    scale(data, "probe", "full", [0.21])  # below ten points: no spread makes that a yes
    assert answers(tmp_path, data)[0] == NO


# ---- monitor -----------------------------------------------------------------------------------------------------


def test_the_rules_speak_on_the_curves_of_a_results_file() -> None:
    run = made.pretrain("collapsing", 0)
    steps = run["monitor"]["step"]
    run["monitor"]["target_entropy"] = [0.6 if step < 150 else 0.999 for step in steps]
    curves = Curves.of(run)
    assert curves.warnings == {"target_entropy": next(step for step in steps if step >= 150)}
    assert Curves.of(made.pretrain("full", 0)).warnings == {}
    assert curves.ends("target_entropy") == pytest.approx((0.6, 0.999))


# ---- tables and pictures -----------------------------------------------------------------------------------------


def test_the_tables_hold_the_numbers_and_say_what_is_missing(tmp_path: Path) -> None:
    data = made.results()
    data["failed"] = [{"id": "full-2", "error": "out of\nmemory"}]
    data["open"] = ["random-1"]
    data["terms"] = [{"seed": 0, "steps": [{"step": 4, "terms": {"laplacian_loss": {"share": 0.02, "cosine": -0.1}}}]}]
    data["pretrain"].append(made.pretrain("collapsing", 0))
    data["pretrain"][-1]["monitor"]["target_entropy"] = [0.6] * 10 + [0.999] * 40
    data["pretrain"].append(made.pretrain("full", 0, rooms=50))
    data["probe"].append(made.probe("full", 0, 0.35, rooms=50))
    (tmp_path / "noise.png").write_bytes(b"of an earlier run")
    tables, *pictures = write(made.save(tmp_path, data))
    text = tables.read_text(encoding="utf-8")
    assert "| full LAM3C | 40.0 ± 1.0 | 40.0 ± 1.0 | 46.0 ± 1.0 | 55.0 ± 1.0 |" in text
    assert text.count("| yes |") == 4
    assert "| clutter | – | – | – |" in text
    assert "| laplacian_loss | 0.020, -0.10 |" in text
    assert "| full LAM3C | 35.0 | 39.0 |" in text  # 50 and 100 rooms, seed 0
    assert "| target entropy / log K | 0.6 | 0.999 | 101 |" in text
    assert "quiet for the first 100 of 200 steps" in text
    assert data["command"] in text
    assert "- `full-2` failed: out of memory" in text
    assert "- `random-1` has not run" in text
    assert "- no features.png: a checkpoint of full LAM3C and rooms of the test split not found" in text
    assert sorted(path.name for path in pictures) == ["monitor.png", "rooms.png"]
    assert not (tmp_path / "noise.png").exists()
    for path in pictures:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_tables_of_failures_alone(tmp_path: Path) -> None:
    data = made.results() | {"pretrain": [], "probe": [], "finetune": [], "wall_seconds": None}
    tables, *pictures = write(made.save(tmp_path, data))
    text = tables.read_text(encoding="utf-8")
    assert not pictures
    assert text.count("| not run |") == 4
    assert "nan" not in text.lower()


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    data = made.results()
    data["pretrain"].append(made.pretrain("full", 0, rooms=50))
    data["probe"].append(made.probe("full", 0, 0.35, rooms=50))
    path = made.save(tmp_path, data)
    first = [file.read_bytes() for file in write(path)]
    assert [file.read_bytes() for file in write(path)] == first


def test_rooms_and_a_checkpoint_become_a_picture(tmp_path: Path) -> None:
    import torch

    from data_tools.drawing.pictures import save_png
    from data_tools.synthetic.rooms.generate import SyntheticSettings, generate
    from lam3c_plugin.host import Config, build_model

    root = Path(__file__).resolve().parents[2]
    config = Config.fromfile(str(root / "configs/lam3c/pretrain-lam3c-v1m1-2-tiny.py"))
    data = made.results()
    checkpoint = tmp_path / next(run["checkpoint"] for run in data["pretrain"] if run["row"] == "full")
    checkpoint.parent.mkdir(parents=True)
    torch.save({"state_dict": build_model(config.model).state_dict()}, checkpoint)
    config.dump(str(checkpoint.parent / "config.py"))
    generate(tmp_path / "data/test", 1, SyntheticSettings(seed=SEEDS["test"], noise="clean", points=2000), split="test")
    _, *pictures = write(made.save(tmp_path, data))
    assert [path.name for path in pictures] == ["features.png"]
    from matplotlib.image import imread

    image = imread(pictures[0])
    blank = save_png(tmp_path / "blank.png", np.full((4, 4, 3), 255, dtype=np.uint8))
    assert imread(blank).min() == 1.0
    # four panels of a room: each of them shows something
    assert all((part[..., :3] < 0.9).any() for part in np.array_split(image[60:-60], 4, axis=1))


def test_a_wrong_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"results\.json: cannot be read"):
        Results(tmp_path / "results.json")
    with pytest.raises(DataError, match="version 7, these tables need 1"):
        Results(made.save(tmp_path, made.results() | {"version": 7}))


def test_a_bar_does_not_break_a_table() -> None:
    assert table(("a",), [("x|y\nz",)]) == "| a |\n| --- |\n| x\\|y z |"


def test_the_collapsing_row_is_over_the_students_temperature() -> None:
    from lam3c_plugin.host import Config

    root = Path(__file__).resolve().parents[2]
    model = Config.fromfile(str(root / "configs/lam3c/pretrain-lam3c-v1m1-2-tiny.py")).model
    student = model.clustering_loss.student_temp
    assert model.teacher_temp_base < student / 2
    assert set(COLLAPSING.values()) == {2 * student}
    assert {key.removeprefix("model.") for key in COLLAPSING} <= set(model)
