"""A server that does what its paths say and counts what it was asked, by host and path."""
import collections
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COUNTS = collections.Counter()
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def serve(self):
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        if self.path == "/counts":
            with LOCK:
                counts = dict(COUNTS)
            return self.answer(200, json.dumps(counts).encode())
        with LOCK:
            key = "%s %s" % (self.headers.get("host", ""), self.path)
            COUNTS[key] += 1
            if body:
                COUNTS["bytes " + self.path] += len(body)
            count = COUNTS[key]
        words = self.path.split("?")[0].strip("/").split("/")
        if words[0] == "status":
            return self.answer(int(words[1]))
        if words[0] == "first":
            # The first requests of a path fail.
            return self.answer(int(words[1]) if count <= int(words[2]) else 200)
        if words[0] == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        if words[0] == "slow":
            time.sleep(int(words[1]) / 1000)
        if words[0] == "grpc":
            return self.answer(200, b"", {"content-type": "application/grpc", "grpc-status": words[1]})
        if words[0] == "limited":
            return self.answer(429, b"", {"x-envoy-ratelimited": "true"})
        return self.answer(200)

    do_GET = do_POST = do_PUT = do_HEAD = serve

    def answer(self, status, body=None, headers={}):
        body = sys.argv[1].encode() if body is None else body
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


Server(("", 8000), Handler).serve_forever()
