"""Serve a report: its files, pages that are made when asked for, and whole clouds to look at.

Bound to this machine unless told otherwise. Nothing but the report's own files and scenes known by name is given out:
scene names are looked up, never joined to a path, and a request for another host's name is refused (a page elsewhere
that points its name at this machine gets nothing).
"""

from __future__ import annotations

import sys
import threading
import webbrowser
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from data_tools.clouds.io import CloudError
from data_tools.reporting.build import make_page
from data_tools.reporting.clouds import layers_of, load_cameras, load_cloud
from data_tools.reporting.model import Report, ReportError, ReportSettings, SceneRow
from data_tools.reporting.pages import THEME_BUTTON, link, page, text
from data_tools.reporting.viewer import camera_lines, help_line, viewer_blob, viewer_part

MOST_POINTS = 3_000_000
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".jpg": "image/jpeg",
    ".png": "image/png",
}


class ReportServer(ThreadingHTTPServer):
    """The report's server; it makes pages with ``settings`` when asked for, port 0 takes a free one."""

    daemon_threads = True

    def __init__(
        self, report: Report, folder: Path, settings: ReportSettings, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.report, self.folder, self.settings, self.host = report, folder.resolve(), settings, host
        self.scenes: dict[tuple[str, str], SceneRow] = {row.place: row for row in report.scenes}
        self.making = threading.Lock()
        super().__init__((host, port), Handler)

    @cached_property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{'127.0.0.1' if self.host in ('0.0.0.0', '') else self.host}:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """One request; reads only."""

    server: ReportServer
    server_version = "report"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a request."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer a request without the body."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the terminal is for errors."""

    def _answer(self, with_body: bool) -> None:
        try:
            status, kind, body = self._route()
        except (OSError, ValueError, CloudError) as error:
            print(f"report: {self.path}: {error}", file=sys.stderr)
            status, kind, body = HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"cannot be made; see the terminal"
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-cache")
            self.send_header("X-Content-Type-Options", "nosniff")
            if status == HTTPStatus.FOUND:
                self.send_header("Location", "/index.html")
            self.end_headers()
            if with_body:
                self.wfile.write(body)
        except ConnectionError:
            return  # the reader went away

    def _route(self) -> tuple[HTTPStatus, str, bytes]:
        missing = (HTTPStatus.NOT_FOUND, "text/plain", b"not here")
        if not self._is_our_name():
            return HTTPStatus.FORBIDDEN, "text/plain", b"not for this host name"
        parts = [unquote(part) for part in urlsplit(self.path).path.split("/") if part]
        if not parts:
            return HTTPStatus.FOUND, "text/plain", b""
        if parts == ["data", "serve.js"]:
            return HTTPStatus.OK, KINDS[".js"], b"RoomTours.serve();\n"
        if len(parts) == 3 and parts[0] in ("view", "cloud", "scenes"):
            place = parts[1], parts[2].removesuffix(".html" if parts[0] == "scenes" else ".bin")
            row = self.server.scenes.get(place)
            return missing if row is None else self._scene(parts[0], row)
        return self._file(parts) or missing

    def _is_our_name(self) -> bool:
        """Whether the request names this machine as it should; only asked where the server is for this machine."""
        if self.server.host not in LOCAL_NAMES:
            return True
        name = self.headers.get("Host", "").rsplit(":", 1)[0].strip("[]") if self.headers.get("Host") else ""
        return name in LOCAL_NAMES

    def _file(self, parts: list[str]) -> tuple[HTTPStatus, str, bytes] | None:
        """A file of the report; None for anything outside of it, hidden or unknown."""
        if any(part.startswith(".") or "/" in part or "\\" in part or "\0" in part for part in parts):
            return None
        path = self.server.folder.joinpath(*parts).resolve()
        if not path.is_relative_to(self.server.folder) or path.suffix not in KINDS or not path.is_file():
            return None
        return HTTPStatus.OK, KINDS[path.suffix], path.read_bytes()

    def _scene(self, what: str, row: SceneRow) -> tuple[HTTPStatus, str, bytes]:
        server = self.server
        if what == "scenes":
            with server.making:  # two readers of one page make it once
                make_page(server.report, server.folder, server.settings, row)
            path = server.folder.joinpath("scenes", row.place[0], f"{row.name}.html")
            whole = f'<a href="{link("", "view", *row.place)}">whole cloud</a>{THEME_BUTTON}'
            return HTTPStatus.OK, KINDS[".html"], path.read_bytes().replace(THEME_BUTTON.encode(), whole.encode(), 1)
        if what == "view":
            return HTTPStatus.OK, KINDS[".html"], view_page(row).encode()
        cloud = load_cloud(row, MOST_POINTS)
        if cloud is None:
            return HTTPStatus.NOT_FOUND, "text/plain", b"no cloud"
        poses = load_cameras(server.report, row)
        lines = None if poses is None or not len(poses) else camera_lines(poses)
        blob = viewer_blob(layers_of(cloud), row.name, MOST_POINTS, lines)
        return HTTPStatus.OK, "application/octet-stream", blob


def view_page(row: SceneRow) -> str:
    """The page that shows a whole cloud, which it asks the server for."""
    spec = {"title": row.name, "url": link("", "cloud", row.place[0], f"{row.name}.bin")}
    back = f'<a href="{link("", "scenes", row.place[0], f"{row.name}.html")}">its page</a>'
    header = f'<header><h1>{text(row.name)}</h1>{back}<a href="/index.html">all scenes</a>{THEME_BUTTON}</header>'
    body = f"{header}\n{viewer_part(spec)}\n{help_line()}"
    return page(row.name, body, styles=("viewer.css",), scripts=("viewer.js",))


def serve(
    report: Report, folder: Path, settings: ReportSettings, host: str, port: int, is_opened: bool = False
) -> None:
    """Serve until interrupted; port 0 takes a free one.

    Raises:
        ReportError: the port is taken; one line.
    """
    try:
        server = ReportServer(report, folder, settings, host, port)
    except OSError as error:
        raise ReportError(f"port {port} of {host}: {error.strerror or error}; give another --port") from None
    if host not in LOCAL_NAMES:
        print(f"report: every machine that reaches {host} can read this report", file=sys.stderr)
    print(f"{server.address}  (Ctrl-C ends it)", flush=True)
    if is_opened:
        webbrowser.open(server.address)
    try:
        server.serve_forever()
    finally:
        server.server_close()
