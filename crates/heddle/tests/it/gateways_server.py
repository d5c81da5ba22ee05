"""An application that tells what it got, also with trailers, and a doorman who lets pass whoever says `ok`."""

import json
import socketserver
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            got = b""
            while size := int(self.rfile.readline(), 16):
                got += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return got.decode()
        return self.rfile.read(int(self.headers.get("content-length", 0))).decode()

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        body = self.body()
        if sys.argv[1] == "doorman":
            if self.headers.get("authorization") != "ok":
                return self.answer(401, b"not you\n", {"www-authenticate": "Test"})
            said, other = self.headers.get("x-said"), self.headers.get("x-other")
            user = f"{self.command} {self.path} {said} {other} {body}"
            return self.answer(200, b"", {"x-user": user, "x-hidden": "all", "content-type": "text/doorman"})
        if self.path.endswith("/trailers"):
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.send_header("trailer", "x-sum")
            self.end_headers()
            self.wfile.write(b"3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n")
            return None
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = {"target": self.path, "headers": headers, "body": body}
        return self.answer(200, json.dumps(told).encode(), {})

    do_POST = do_GET


socketserver.TCPServer.allow_reuse_address = True
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2] + ".crt", sys.argv[2] + ".key")
    own = ThreadingHTTPServer(("0.0.0.0", 8443), Handler)
    own.socket = context.wrap_socket(own.socket, server_side=True)
    threading.Thread(target=own.serve_forever, daemon=True).start()
ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
