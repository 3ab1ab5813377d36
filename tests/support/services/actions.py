"""The cache service of GitHub Actions, written from its published protocol: no server of it can be had.

BuildKit writes to it and reads from it, too. It holds its caller to the protocol: bearer token, JSON names, `version`,
uploads to URLs that were given out and are good for one entry, entries that never change and are found only when they
were ended with their right size.
"""

import base64
import http.server
import json
import secrets
import threading
import urllib.parse

from talk import talk, to_bytes, to_text

CALLS = "/twirp/github.actions.results.api.v1.CacheService/"


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


scopes = [{"Scope": "refs/heads/main", "Permission": 1}, {"Scope": "refs/heads/work", "Permission": 3}]
TOKEN = f"{part({'alg': 'none'})}.{part({'ac': json.dumps(scopes), 'nbf': 0, 'exp': 4102444800})}.sig"

lock = threading.Lock()
entries = {}  # (version, key) to bytes, in the order in which they were ended
begun = {}  # (version, key) to bytes, or None before they are there
tickets = {}  # what a signed URL is good for


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def say(self, status, value):
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def body(self):
        return self.rfile.read(int(self.headers["Content-Length"]))

    def do_POST(self):
        asked = json.loads(self.body())
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.say(401, {"code": "unauthenticated", "msg": "bad token"})
        if self.headers["Content-Type"] != "application/json" or not self.path.startswith(CALLS):
            return self.say(404, {"code": "bad_route", "msg": "no such call"})
        with lock:
            return self.call(self.path.removeprefix(CALLS), asked)

    def call(self, name, asked):
        entry = (asked["version"], asked["key"])
        if name == "CreateCacheEntry":
            if entry in entries or entry in begun:
                return self.say(409, {"code": "already_exists", "msg": "the entry is there"})
            begun[entry] = None
            return self.say(200, {"ok": True, "signed_upload_url": self.ticket("PUT", entry)})
        if name == "FinalizeCacheEntryUpload":
            data = begun.get(entry)
            if data is None or len(data) != int(asked["size_bytes"]):
                return self.say(200, {"ok": False, "entry_id": "0"})
            entries[entry] = begun.pop(entry)
            return self.say(200, {"ok": True, "entry_id": str(len(entries))})
        if name == "GetCacheEntryDownloadURL":
            found = self.find(entry, asked.get("restore_keys", []))
            if found is None:
                return self.say(200, {"ok": False, "signed_download_url": "", "matched_key": ""})
            url = self.ticket("GET", found)
            return self.say(200, {"ok": True, "signed_download_url": url, "matched_key": found[1]})
        return self.say(404, {"code": "bad_route", "msg": "no such call"})

    @staticmethod
    def find(entry, prefixes):
        if entry in entries:
            return entry
        newest = [e for e in entries if e[0] == entry[0] and any(e[1].startswith(p) for p in prefixes)]
        return newest[-1] if newest else None

    @staticmethod
    def ticket(method, entry):
        name = secrets.token_hex(16)
        tickets[name] = (method, entry)
        return f"{url}/blob?sig={name}"

    def ticketed(self, method):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        allowed, entry = tickets.get(query.get("sig", [""])[0], (None, None))
        return entry if allowed == method else None

    def do_PUT(self):
        data = self.body()
        with lock:
            entry = self.ticketed("PUT")
            right = entry in begun and self.headers["x-ms-blob-type"] == "BlockBlob"
            if not right or self.headers["Authorization"]:
                return self.answer(403)
            begun[entry] = data
            return self.answer(201, x_ms_request_id=secrets.token_hex(16))

    def do_GET(self):
        with lock:
            entry = self.ticketed("GET")
        if entry is None or self.headers["Authorization"]:
            return self.answer(403)
        data = entries[entry]
        if not self.headers["Range"]:
            return self.answer(200, data)
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        reach = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return self.answer(206, data[start:], Content_Range=reach)

    do_HEAD = do_GET


def keys(prefix):
    return [key for _, key in entries if key.startswith(prefix)]


def of(key):
    return next(entry for entry in entries if entry[1] == key)


def get(key):
    return to_text(entries[of(key)])


def put(key, data):
    entries[of(key)] = to_bytes(data)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
url = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()
talk({"url": url, "token": TOKEN}, keys=keys, get=get, put=put)
