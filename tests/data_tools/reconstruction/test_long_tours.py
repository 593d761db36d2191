"""Tours in chunks: joined, closed in loops, fused; with a backend that knows the truth of the filmed flat."""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks._tours import Errors, TourReconstructor
from benchmarks.long_tours import run, trajectory_error
from data_tools.clouds.io import read_cloud
from data_tools.reconstruct import reconstruct_scene
from data_tools.reconstruction import ReconstructSettings
from data_tools.reconstruction.alignment import IDENTITY, Similarity, umeyama
from data_tools.reconstruction.chunks import graph
from data_tools.reconstruction.chunks.join import Joint, robust_similarity
from data_tools.reconstruction.chunks.tour import reconstruct_tour, split, work_folder
from data_tools.stages.record import StageError


def one_pass(backend):
    return lambda frames, notes: (backend.reconstruct(frames, 0), frames)


def test_a_tour_of_five_visits_is_one_world(tour):
    rows = [run(tour, TourReconstructor(tour), 60, closes_loops) for closes_loops in (False, True)]
    without, closed = rows
    assert closed.loops >= 3
    assert without.loops == 0
    assert closed.error < 2 * closed.chunk_error
    assert closed.error < 0.7 * without.error
    assert abs(closed.drift) < 0.01
    assert closed.double < 0.05


@pytest.mark.parametrize(("count", "limit"), [(301, 300), (2520, 60), (3000, 300), (17, 16), (700, 150)])
def test_chunks_are_even_overlap_and_cover_all(count, limit):
    spans = split(count, limit)
    assert np.array_equal(np.unique(np.concatenate(spans)), np.arange(count))
    assert max(map(len, spans)) <= limit
    assert np.ptp([len(span) for span in spans]) <= 1
    shared = {len(np.intersect1d(a, b)) for a, b in pairwise(spans)}
    assert shared == {max(4, limit // 6)}


def random_similarity(rng):
    turn = Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix()
    return Similarity(float(np.exp(rng.normal(0, 0.5))), turn, rng.normal(0, 3, 3))


def test_a_joint_stands_a_third_of_wrong_pairs():
    rng = np.random.default_rng(0)
    truth, points = random_similarity(rng), rng.uniform(-3, 3, (5000, 3))
    depth = np.full(5000, 3.0 * truth.scale)
    target = truth.apply(points) + 0.01 * truth.scale * rng.standard_normal((5000, 3))
    target[:1700] += truth.scale * (2 + rng.normal(0, 2, (1700, 3)))  # all to one side
    found, agree = robust_similarity(points, target, np.ones(5000), depth)
    assert abs(found.scale / truth.scale - 1) < 1e-3
    np.testing.assert_allclose(found.rotation, truth.rotation, atol=1e-3)
    assert 0.6 < agree.mean() < 0.72


def test_noise_on_both_sides_does_not_shrink():
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (20000, 3))
    noisy = [points + 0.2 * rng.standard_normal(points.shape) for _ in range(2)]
    assert umeyama(*noisy).scale < 0.92
    assert abs(robust_similarity(*noisy, np.ones(20000), np.ones(20000))[0].scale - 1) < 0.02


@pytest.mark.parametrize("seed", range(3))
def test_the_graph_closes_rings_and_leaves_wrong_loops_out(seed):
    """Twelve chunks of one room, each in a world of its own, steps that drift; four true loops and two false ones."""
    rng = np.random.default_rng(seed)
    places, depth = [IDENTITY, *(random_similarity(rng) for _ in range(11))], 3.0

    def joint(a, b, error, is_loop=False):
        anchors = places[b].inverse().apply(rng.normal(0, 1.5, (7, 3)))
        middle = places[b].apply(anchors).mean(0)
        turn, scale = Rotation.from_rotvec(error * rng.normal(0, 1, 3)).as_matrix(), np.exp(error * rng.normal(0, 0.5))
        slip = Similarity(scale, turn, middle - scale * turn @ middle + error * depth * rng.normal(0, 0.5, 3))
        step = places[a].inverse().after(slip).after(places[b])
        return Joint(a, b, step, anchors, depth / places[a].scale, 1.0, is_loop)

    far = [(a, b) for a in range(12) for b in range(a + 3, 12)]
    pairs = [far[number] for number in rng.permutation(len(far))[:6]]
    steps = [joint(a, a + 1, 0.015) for a in range(11)]
    loops = [joint(*pair, 0.003, True) for pair in pairs[:4]]
    false = [joint(*pair, 0.5, True) for pair in pairs[4:]]
    edges = [*false, *steps, *loops]
    start, reached = graph.chain(12, edges)
    assert reached == list(range(12))
    found, weight = graph.optimise(start, edges)
    assert (weight[:2] < graph.USED).all()
    assert (weight[-4:] > graph.USED).all()
    room = rng.normal(0, 1.5, (50, 3))

    def error(nodes):
        carried = [node.apply(place.inverse().apply(room)) for node, place in zip(nodes, places, strict=True)]
        return np.mean([np.linalg.norm(points - room, axis=1) for points in carried])

    assert error(found) < 0.8 * error(start)


def test_chunks_that_no_joint_leads_to_are_left_out():
    joints = [Joint(a, b, IDENTITY, np.zeros((7, 3)), 1.0, 1.0) for a, b in ((0, 1), (2, 3), (3, 4))]
    places, reached = graph.chain(5, joints)
    assert reached == [2, 3, 4]
    assert places[:2] == [None, None]


def test_where_memory_ends_chunks_are_shorter_and_no_frame_is_lost(tour, tmp_path):
    backend, notes = TourReconstructor(tour), []

    def predict(frames, words):
        if len(frames) > 40:
            frames = frames.select(np.linspace(0, len(frames) - 1, 40).round().astype(int))
            words.append("out of memory")
        return backend.reconstruct(frames, 0), frames

    found = reconstruct_tour(predict, tour.frames.select(np.arange(120)), 60, tmp_path, notes)
    assert found.view.tolist() == list(range(120))
    assert found.notes[0].startswith("4 chunks of at most 35 frames")
    assert notes == ["out of memory"]


def test_a_chunk_that_fails_is_left_out_and_said(tour, tmp_path):
    backend, notes = TourReconstructor(tour), []

    def predict(frames, words):
        if frames.index[0] < 70 < frames.index[-1]:
            raise StageError("no parallax")
        return backend.reconstruct(frames, 0), frames

    frames = tour.frames.select(np.arange(120))
    found = reconstruct_tour(predict, frames, 30, tmp_path, notes, closes_loops=False)
    assert [note for note in notes if note.endswith("left out: no parallax")]
    assert "do not join the others" in found.notes[1]
    assert trajectory_error(found.camera_to_world, tour.camera_to_world[found.view])[0] < 0.05
    with pytest.raises(StageError, match=r"^none of 5 chunks could be reconstructed; the first: dark$"):
        reconstruct_tour(lambda *_: (_ for _ in ()).throw(StageError("dark")), frames, 30, tmp_path / "b", [])


PASSING = [KeyboardInterrupt(), StageError("the disk is full", permanent=False), OSError("a bad sector")]


@pytest.mark.parametrize("stop", PASSING, ids=lambda stop: type(stop).__name__)
def test_a_tour_that_was_stopped_goes_on_with_its_chunks(tour, tmp_path, stop):
    backend, frames = TourReconstructor(tour), tour.frames.select(np.arange(120))

    def interrupted(some, words):
        if backend.passes == 2:
            raise stop
        return one_pass(backend)(some, words)

    def go(predict, key="a"):
        with work_folder(tmp_path / "scene", key) as folder:
            return np.array(reconstruct_tour(predict, frames, 40, folder, []).points), folder.exists()

    with pytest.raises(type(stop)):
        go(interrupted)
    points, _ = go(one_pass(backend))
    assert backend.passes == len(split(120, 40))
    assert list(tmp_path.iterdir()) == []
    backend.passes = 0
    with pytest.raises(type(stop)):
        go(interrupted)
    backend.passes = 10
    again, _ = go(one_pass(backend), "b")  # other settings: from the start
    assert backend.passes == 10 + len(split(120, 40))
    assert np.array_equal(points, again)
    assert list(tmp_path.iterdir()) == []


def test_a_long_scene_goes_through_the_stage(tour, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(90):
        cv2.imwrite(str(tmp_path / "photos" / f"{number:04d}.png"), tour.frames.images[number][..., ::-1])
    backend = TourReconstructor(tour, Errors(noise=0.001, outliers=0, pose=0, bend=0))
    settings = ReconstructSettings(chunk_frames=40, deterministic=True)
    for place in ("one", "two"):
        record = reconstruct_scene(
            tmp_path / "photos", [(0, None)], tmp_path / place / "flat", settings, False, backend
        )
        assert record.status == "done", record.reason
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["flat"]
    cloud = read_cloud(tmp_path / "one" / "flat" / "cloud.ply")
    assert record.result["figures"]["chunks_joined"] == record.result["figures"]["chunks"] == 3
    assert record.result["views"] == 90
    assert record.result["dropped"]["seen better"] > 0.05  # of the room that is seen again
    poses = np.load(tmp_path / "one" / "flat" / "cameras.npz")["camera_to_world"]
    error, whole = trajectory_error(poses, tour.camera_to_world[:90])
    assert error < 0.005
    height = whole.apply(cloud.coord.astype(np.float64))[:, 2]
    assert -0.02 < height.min() < 0.02  # the floor
    assert (tmp_path / "two" / "flat" / "cloud.ply").read_bytes() == (
        tmp_path / "one" / "flat" / "cloud.ply"
    ).read_bytes()
    whole_pass = reconstruct_scene(
        tmp_path / "photos",
        [(0, None)],
        tmp_path / "three" / "flat",
        replace(settings, chunk_frames=90),
        False,
        backend,
    )
    assert "chunks" not in whole_pass.result["figures"]
