# An authoriser of HTTP and an issuer's keys: /jwks has the keys, /check… leave for whoever says so in a header.
import http.server
import os


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        status, headers, body = 404, {}, b""
        if self.path == "/jwks":
            status, body = 200, open(os.path.join(os.path.dirname(__file__), "jwks.json"), "rb").read()
        elif self.path.startswith("/check/"):
            if self.headers.get("x-ext-authz") == "allow":
                status, headers = 200, {"x-checked-for": self.path}
            else:
                status, headers, body = 418, {"x-why": "teapot"}, b"not for you"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
