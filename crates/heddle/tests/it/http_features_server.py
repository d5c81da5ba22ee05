"""A server that reads requests by hand, so that a test sees the bytes that arrived."""
import base64
import hashlib
import socketserver

SEEN = []


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while self.one():
            pass

    def one(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return False
            head += line
        path = head.split(b" ")[1].decode()
        SEEN.append(path)
        fields = {}
        for line in head.split(b"\r\n")[1:-2]:
            name, value = line.split(b":", 1)
            fields[name.lower()] = value.strip()
        if fields.get(b"upgrade") == b"websocket":
            return self.upgrade(fields)
        body, trailers, chunked = self.body(fields)
        if path == "/trailers":
            return self.answer_with_trailers(body, trailers)
        if path == "/echo":
            return self.answer(body, chunked)
        if path == "/seen":
            return self.answer("\n".join(SEEN).encode(), False)
        return self.answer(head, False)

    def body(self, fields):
        if fields.get(b"expect", b"").lower() == b"100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fields.get(b"transfer-encoding") != b"chunked":
            return self.rfile.read(int(fields.get(b"content-length", 0))), {}, False
        body, trailers = b"", {}
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            if size == 0:
                break
            body += self.rfile.read(size)
            self.rfile.readline()
        for line in iter(self.rfile.readline, b"\r\n"):
            name, value = line.split(b":", 1)
            trailers[name.lower()] = value.strip()
        return body, trailers, True

    def answer(self, body, chunked):
        head = b"HTTP/1.1 200 OK\r\nX-ReSpOnSe-CaSe: Kept\r\n"
        if chunked:
            self.wfile.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        else:
            self.wfile.write(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        return True

    def answer_with_trailers(self, body, trailers):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Echoed-Sum\r\n\r\n")
        self.wfile.write(b"%x\r\n%s\r\n0\r\n" % (len(body), body))
        self.wfile.write(b"X-Echoed-Sum: %s\r\n\r\n" % trailers.get(b"x-sum", b"none"))
        return True

    def upgrade(self, fields):
        # The constant of RFC 6455 section 1.3.
        key = fields[b"sec-websocket-key"] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key).digest())
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
        self.wfile.write(b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept)
        while data := self.connection.recv(65536) if not self.rfile.peek() else self.rfile.read1():
            self.wfile.write(data)
        return False


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("", 8000), Handler).serve_forever()
