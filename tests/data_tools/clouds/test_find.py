import pytest

from data_tools.clouds.find import clouds_in, clouds_of
from data_tools.clouds.io import CloudError


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


@pytest.fixture
def data(tmp_path):
    """A split with a scene, a file, and what is none of its clouds."""
    scene = put(tmp_path / "train/room/coord.npy").parent
    put(scene / "inner/cloud.ply")
    put(tmp_path / "scan.PLY")
    for other in ("notes.md", ".hidden.ply", "~lock.ply", "_work/clouds/a/cloud.ply", ".partial/a/coord.npy"):
        put(tmp_path / other)
    return tmp_path


def names(root, paths):
    return [path.relative_to(root).as_posix() for path in paths]


def test_scenes_and_files_in_the_order_of_their_names(data):
    assert names(data, clouds_in(data)) == ["scan.PLY", "train/room"]


def test_results_are_no_inputs_and_links_do_not_go_round(data):
    put(data / "out/deep/a.ply")
    (data / "train/again").symlink_to(data)
    assert names(data, clouds_in(data, data / "out")) == ["scan.PLY", "train/room"]
    assert clouds_in(data / "out", data / "out") == []
    assert names(data, clouds_in(data)) == ["out/deep/a.ply", "scan.PLY", "train/room"]


def test_what_is_given_stands_for_itself_or_for_what_is_in_it(data):
    (data / "empty").mkdir()
    given = [data / "train/room", data / "nowhere.ply", data / "empty", data / "train"]
    assert [names(data, found) for found in clouds_of(given).values()] == [
        ["train/room"],
        ["nowhere.ply"],
        [],
        ["train/room"],
    ]


def test_a_folder_that_cannot_be_read_is_named(data, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(CloudError, match=r"cannot be read \(Permission denied\)"):
        clouds_in(data)
