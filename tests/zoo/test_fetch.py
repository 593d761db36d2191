"""Downloads break off, go on, and end whole or not at all."""

import hashlib

import pytest

from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo import fetch
from tests.zoo.servers import Site, serve

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site():
    return Site({"a.bin": CONTENT})


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def get(address, folder, **options):
    return fetch.download(f"{address}/a.bin", folder / "a.bin", **{"wait": 0.0, **options})


def test_a_plain_download(tmp_path, site):
    seen = []
    with serve(site) as address:
        assert get(address, tmp_path, sha256=DIGEST, progress=lambda *now: seen.append(now)) == DIGEST
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert left(tmp_path) == ["a.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_dropped_connection_goes_on_where_it_stopped(tmp_path, site):
    site.breaks = 2
    with serve(site) as address:
        assert get(address, tmp_path, sha256=DIGEST) == DIGEST
    assert [item[2] for item in site.requests] == [None, "bytes=1000-", "bytes=2000-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_without_a_hash_it_begins_again(tmp_path, site):
    site.breaks = 1
    with serve(site) as address:
        assert get(address, tmp_path) == DIGEST
    assert [item[2] for item in site.requests] == [None, None]


def test_what_came_is_kept_for_the_next_call(tmp_path, site):
    site.breaks, site.break_at = fetch.TRIES, 100
    with serve(site) as address:
        with pytest.raises(CheckpointError, match=r"broke off 5 times .* 500 bytes are kept; run it again"):
            get(address, tmp_path, sha256=DIGEST)
        assert left(tmp_path) == ["a.bin.part"]
        assert get(address, tmp_path, sha256=DIGEST) == DIGEST
    assert site.requests[-1][2] == "bytes=500-"
    assert left(tmp_path) == ["a.bin"]


def test_a_part_of_another_file_is_left(tmp_path, site):
    (tmp_path / "a.bin.part").write_bytes(b"other" * 100)
    with serve(site) as address:
        assert get(address, tmp_path, sha256=DIGEST) == DIGEST
    assert [item[2] for item in site.requests] == ["bytes=500-", None]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file(tmp_path, site):
    (tmp_path / "a.bin.part").write_bytes(CONTENT + b"more")
    with serve(site) as address:
        assert get(address, tmp_path, sha256=DIGEST) == DIGEST


def test_a_server_without_ranges(tmp_path, site):
    site.breaks, site.ranges = 2, False
    with serve(site) as address:
        assert get(address, tmp_path, sha256=DIGEST) == DIGEST
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_the_wrong_file_is_removed(tmp_path, site):
    with serve(site) as address, pytest.raises(CheckpointError, match=r"its SHA-256 is .* expected"):
        get(address, tmp_path, sha256="0" * 64)
    assert left(tmp_path) == []
    assert len(site.requests) == 1


def test_error_pages(tmp_path, site):
    site.html = True
    with serve(site) as address:
        with pytest.raises(CheckpointError, match="web page"):
            get(address, tmp_path)
        site.html, site.status = False, 403
        with pytest.raises(CheckpointError, match="HTTP 403"):
            get(address, tmp_path)
        site.status, before = 503, len(site.requests)
        with pytest.raises(CheckpointError, match=r"HTTP 503\); check the connection"):
            get(address, tmp_path)
        assert len(site.requests) - before == fetch.TRIES
    with pytest.raises(CheckpointError, match="broke off"):
        get(address, tmp_path)  # nobody listens any more
    assert left(tmp_path) == []


def test_http_needs_a_hash(tmp_path):
    with pytest.raises(CheckpointError, match="not https"):
        fetch.download("http://example.invalid/a.bin", tmp_path / "a.bin")


def test_an_unwritable_place(tmp_path, site):
    (tmp_path / "file").write_text("x")
    with serve(site) as address, pytest.raises(CheckpointError, match="cannot write"):
        fetch.download(f"{address}/a.bin", tmp_path / "file" / "a.bin")
