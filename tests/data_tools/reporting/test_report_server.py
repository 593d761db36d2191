"""The report's server: pages made when asked for, whole clouds, and nothing that was not meant to be given out."""

import http.client
import json
import socket
import threading
from urllib.parse import quote

import pytest

from data_tools.reporting.build import build
from data_tools.reporting.model import ReportError, ReportSettings
from data_tools.reporting.scan import scan
from data_tools.reporting.server import ReportServer, serve
from tests.data_tools.reporting.report_tree import HOSTILE, put_whole

SETTINGS = ReportSettings(pages=0, extremes=0, points=300)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    out = put_whole(tmp_path_factory.mktemp("served"))
    (out / "secret.txt").write_text("secret")
    (out / "secret.json").write_text("secret")
    report = scan(out)
    build(report, out / "report", SETTINGS)
    (out / "report/data/link.json").symlink_to(out / "secret.json")
    running = ReportServer(report, out / "report", SETTINGS)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def get(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_it_listens_on_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"


def test_the_first_page_and_its_files(server):
    answer, _ = get(server, "/")
    assert (answer.status, answer.getheader("Location")) == (302, "/index.html")
    answer, body = get(server, "/index.html")
    assert answer.status == 200
    assert b"<h2>Distributions</h2>" in body
    assert get(server, "/data/scenes-0000.js")[0].status == 200
    assert get(server, "/data/serve.js")[1] == b"RoomTours.serve();\n"
    answer, body = get(server, "/index.html", method="HEAD")
    assert (answer.status, body) == (200, b"")


@pytest.mark.parametrize("name", ["tour_000", HOSTILE])
def test_a_missing_page_is_made_when_asked_for(server, name):
    split = "train" if name == "tour_000" else "val"
    path = server.folder / "scenes" / split / f"{name}.html"
    assert not path.exists()
    answer, body = get(server, f"/scenes/{split}/{quote(name + '.html', safe='')}")
    assert answer.status == 200
    assert b'href="/view/' in body
    assert path.is_file()
    assert b'href="/view/' not in path.read_bytes()


def test_a_whole_cloud_with_cameras(server):
    assert get(server, "/view/train/tour_000")[0].status == 200
    answer, blob = get(server, "/cloud/train/tour_000.bin")
    assert answer.status == 200
    length = int.from_bytes(blob[:4], "little")
    spec = json.loads(blob[4 : 4 + length])
    assert spec["clouds"][0]["count"] == 3000
    assert len(spec["lines"]) == (3 * 8 + 2) * 6
    start, size = spec["clouds"][0]["position"]
    assert size == 3000 * 6
    assert 4 + length + start + size <= len(blob)


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.json",
        "/..%2fsecret.json",
        "/scenes/../../secret.txt",
        "/scenes/..%2f..%2ftrain/tour_000.html",
        "/cloud/train/..%2f..%2f_work%2fclouds%2ftour_000",
        "/cloud/_work/clouds",
        "//etc/passwd",
        "/data/link.json",
        "/data/.hidden.json",
        "/data",
        "/data/%00.json",
        "/cloud/_/tour_004.bin",
    ],
)
def test_nothing_else_is_given_out(server, path):
    answer, body = get(server, path)
    assert answer.status == 404
    assert b"secret" not in body


def test_another_host_name_is_refused(server):
    assert get(server, "/index.html", Host="evil.example:80")[0].status == 403
    assert get(server, "/index.html", Host="localhost:8080")[0].status == 200


def test_a_taken_port_is_one_line(server):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ReportError, match="give another --port"):
            serve(server.report, server.folder, SETTINGS, "127.0.0.1", taken.getsockname()[1])
