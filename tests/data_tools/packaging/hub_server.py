"""As much of the hub as an upload needs, on this machine: what is committed is kept, and every request is noted."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = (".tar",)  # goes the way of large files, by SHA-256


class Hub:
    """Files of one dataset (path -> bytes), stored large files (SHA-256 -> bytes), requests (method, path)."""

    def __init__(self):
        self.files, self.stored, self.requests, self.address = {}, {}, [], ""
        self.storing = threading.Lock()
        self.fail_after = None  # so many large files are taken, the next is refused

    def count(self, method, word):
        return sum(method == m and word in path for m, path in self.requests)

    def preupload(self, asked):
        rows = []
        for path in (file["path"] for file in asked["files"]):
            row = {"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular", "shouldIgnore": False}
            known = self.entry(path, self.files[path]) if path in self.files else {}
            rows.append({**row, **({"oid": known.get("lfs", known)["oid"]} if known else {})})
        return {"files": rows}

    def batch(self, asked):
        rows = []
        for item in asked["objects"]:
            row = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.stored:
                row["actions"] = {"upload": {"href": f"{self.address}/store/{item['oid']}"}}
            rows.append(row)
        return {"transfer": "basic", "objects": rows}

    def commit(self, body):
        for line in filter(None, body.split(b"\n")):
            row = json.loads(line)
            if row["key"] == "file":
                self.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            elif row["key"] == "lfsFile":
                self.files[row["value"]["path"]] = self.stored[row["value"]["oid"]]
        return {"commitUrl": f"{self.address}/datasets/me/rooms/commit/{'1' * 40}", "commitOid": "1" * 40}

    def entry(self, path, data):
        name = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        row = {"type": "file", "path": path, "size": len(data), "oid": name}
        if path.endswith(LARGE):
            row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return row


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def do_PUT(self):
        self.answer()

    def answer(self):
        hub, path = self.server.hub, self.path.split("?")[0]
        hub.requests.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path.startswith("/store/"):
            digest = path.rpartition("/")[2]
            assert hashlib.sha256(body).hexdigest() == digest
            with hub.storing:  # the client sends several at a time
                takes = hub.fail_after is None or len(hub.stored) < hub.fail_after
                hub.stored |= {digest: body} if takes else {}
            self.reply(*(({},) if takes else ({"error": "too much"}, 403)))
        elif path.endswith("/repos/create"):
            asked = json.loads(body)
            assert (asked["type"], asked["name"]) == ("dataset", "rooms")
            self.reply({"url": f"{hub.address}/datasets/me/rooms", "name": "me/rooms"})
        elif "/revision/" in path:
            self.reply({"id": "me/rooms", "sha": "1" * 40})
        elif "/preupload/" in path:
            self.reply(hub.preupload(json.loads(body)))
        elif path.endswith("/objects/batch"):
            self.reply(hub.batch(json.loads(body)))
        elif "/commit/" in path:
            self.reply(hub.commit(body))
        elif path.endswith("/validate-yaml"):
            self.reply({"errors": [], "warnings": []})
        else:
            self.reply({"error": f"no such place: {path}"}, 404)

    def reply(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serve_hub():
    """Run a hub; gives it."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub, hub.address = hub, f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
