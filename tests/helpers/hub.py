"""A local stand-in for the Hugging Face hub and for the release's repository, which breaks when it is told to."""

import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse


class Hub:
    """Serves ``files`` {"owner/name": {path: bytes}} as data sets or models, and ``raw`` {path: bytes} below /raw.

    ``sent[path]``: bytes of the file that went out. ``break_after``: bytes after which an answer is cut off, once each
    (a list, the first is next); ``claim``: {path: size} listed instead of the true one.
    """

    def __init__(self, files, raw=()):
        self.files, self.raw = files, dict(raw)
        self.sent, self.asked, self.break_after, self.claim = {}, [], [], {}
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def entry(self, repo, path):
        content = self.files[repo][path]
        size = self.claim.get(path, len(content))
        return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": size, "path": path}

    def _handler(hub):  # noqa: N805
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                hub.asked.append(f"{self.command} {self.path}")
                path = urllib.parse.unquote(self.path.partition("?")[0])
                if match := re.fullmatch(r"/raw/(.+)", path):
                    return self.send(hub.raw.get(match[1]))
                if match := re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                    return self.send(hub.files.get(match[1], {}).get(match[2]), match[2])
                if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(/.*)?", path):
                    return self.api(match[1], match[2] or "")
                return self.answer(404, b"")

            do_HEAD = do_GET

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                hub.asked.append(f"POST {self.path}")
                match = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/paths-info/[^/]+", self.path.partition("?")[0])
                if not match or match[1] not in hub.files:
                    return self.answer(404, b"")
                try:
                    paths = json.loads(body)["paths"]
                except ValueError:
                    paths = urllib.parse.parse_qs(body.decode()).get("paths", [])
                known = [hub.entry(match[1], path) for path in paths if path in hub.files[match[1]]]
                return self.answer(200, json.dumps(known).encode(), {"content-type": "application/json"})

            def api(self, repo, rest):
                if repo not in hub.files:
                    return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
                entries = [hub.entry(repo, path) for path in hub.files[repo]]
                about = {
                    "id": repo,
                    "sha": "0" * 40,
                    "siblings": [{"rfilename": entry["path"], "size": entry["size"]} for entry in entries],
                }
                known = entries if rest.startswith("/tree") else about
                return self.answer(200, json.dumps(known).encode(), {"content-type": "application/json"})

            def send(self, content, name=""):
                if content is None:
                    return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
                headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": "0" * 40}
                span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
                if not span:
                    return self.answer(200, content, headers, name)
                start, end = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
                if start >= len(content):
                    return self.answer(416, b"", headers)
                headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
                return self.answer(206, content[start : end + 1], headers, name)

            def answer(self, code, body, headers=None, name=""):
                self.send_response(code)
                for key, value in (headers or {}).items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                cut = hub.break_after.pop(0) if name and hub.break_after else None
                with contextlib.suppress(OSError):
                    self.wfile.write(body[:cut])
                hub.sent[name] = hub.sent.get(name, 0) + len(body[:cut])
                if cut is not None:
                    self.close_connection = True

        return Handler
