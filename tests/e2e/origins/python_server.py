"""An origin on Python's http.server: `python_server.py PORT PAYLOAD`. /small, /download, /upload like the others."""

import hashlib
import http.server
import json
import pathlib
import shutil
import sys

PAYLOAD = pathlib.Path(sys.argv[2])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path.startswith("/download"):
            self.answer(PAYLOAD.stat().st_size)
            with PAYLOAD.open("rb") as file:
                shutil.copyfileobj(file, self.wfile, 1 << 18)
        else:
            self.text(b"hello from python\n")

    def do_HEAD(self):
        self.answer(len(b"hello from python\n"))

    def do_POST(self):
        digest, size = hashlib.sha256(), 0
        for piece in self.pieces():
            digest.update(piece)
            size += len(piece)
        self.text(json.dumps({"bytes": size, "sha256": digest.hexdigest()}).encode())

    do_PUT = do_POST

    def pieces(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while length := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(length)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, 1 << 18))
            if not piece:
                raise ConnectionError("the body broke off")
            left -= len(piece)
            yield piece

    def text(self, body):
        self.answer(len(body))
        self.wfile.write(body)

    def answer(self, length):
        self.send_response(200)
        self.send_header("X-Origin", "python")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
