"""Web servers on this machine: plain files that break off on request, and as much of a Hub as one file needs."""

import hashlib
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


class Site:
    """What a server gives, and the requests it got.

    Attributes:
        files: path -> bytes.
        breaks: how many answers end after ``break_at`` bytes.
        ranges: understand ``Range``.
        html: answer with a page.
        status: answer with this error.
    """

    def __init__(self, files=None, **settings):
        self.files = dict(files or {})
        self.breaks, self.break_at, self.ranges, self.html, self.status = 0, 1000, True, False, None
        self.etag, self.hub, self.commit = True, False, COMMIT
        self.requests = []
        vars(self).update(settings)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        site = self.server.site
        site.requests.append((self.command, self.path, self.headers.get("Range")))
        path = self.path.split("?")[0]
        if site.status:
            return self.small(site.status, "text/plain", b"no")
        if site.html:
            return self.small(200, "text/html; charset=utf-8", b"<!DOCTYPE html><html>log in</html>", body)
        match = re.fullmatch(r"/(\w[\w.-]*/\w[\w.-]*)/resolve/([^/]+)/(.+)", path) if site.hub else None
        name = match[3] if match else path.lstrip("/")
        if name not in site.files or (site.hub and not match):
            return self.small(404, "text/plain", b"no such file", code="EntryNotFound")
        if match and match[2] not in ("main", site.commit):
            return self.small(404, "text/plain", b"no such revision", code="RevisionNotFound")
        return self.file(site, site.files[name], body)

    def small(self, status, kind, content, body=True, code=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if code:
            self.send_header("X-Error-Code", code)
            if code == "EntryNotFound":
                self.send_header("X-Repo-Commit", self.server.site.commit)
        self.end_headers()
        if body and self.command == "GET":
            self.wfile.write(content)

    def file(self, site, content, body):
        digest = hashlib.sha256(content).hexdigest()
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        begin = 0
        if wanted and site.ranges and self.headers.get("If-Range") in (None, f'"{digest}"'):
            begin = int(wanted[1])
            if begin >= len(content):
                return self.small(416, "text/plain", b"")
        self.send_response(206 if begin else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(content) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if site.etag:
            self.send_header("ETag", f'"{digest}"')
        if site.hub:
            self.send_header("X-Repo-Commit", site.commit)
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Linked-Etag", f'"{digest}"')
        self.end_headers()
        if not body:
            return None
        part = content[begin:]
        if site.breaks:
            site.breaks -= 1
            part = part[: site.break_at]
            self.close_connection = True
        self.wfile.write(part)
        return None


@contextmanager
def serve(site):
    """Run a site; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.site = site
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
