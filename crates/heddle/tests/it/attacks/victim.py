"""Says on its standard output what reaches it, and answers everything."""
import selectors
import socket

selector = selectors.DefaultSelector()


def listen(family, kind, address, port, name):
    own = socket.socket(family, kind)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    own.bind((address, port))
    if kind == socket.SOCK_STREAM:
        own.listen()
    selector.register(own, selectors.EVENT_READ, name)


V4, V6 = socket.AF_INET, socket.AF_INET6
for port, name in ((8080, "declared"), (8090, "undeclared")):
    listen(V4, socket.SOCK_STREAM, "0.0.0.0", port, name)
    listen(V6, socket.SOCK_STREAM, "::", port, name)
listen(V4, socket.SOCK_STREAM, "127.0.0.1", 8091, "loopback")
listen(V6, socket.SOCK_STREAM, "::1", 8091, "loopback")
listen(V4, socket.SOCK_DGRAM, "0.0.0.0", 5000, "datagram")
listen(V6, socket.SOCK_DGRAM, "::", 5000, "datagram")
print("listening", flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj.type == socket.SOCK_DGRAM:
            data, peer = key.fileobj.recvfrom(100)
            print("REACHED", key.data, data, flush=True)
            key.fileobj.sendto(b"welcome", peer)
            continue
        stream, _ = key.fileobj.accept()
        stream.settimeout(2)
        try:
            data = stream.recv(1000)
            print("REACHED", key.data, data.splitlines()[:1], flush=True)
            stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nwelcome")
        except OSError:
            print("REACHED", key.data, "and said nothing", flush=True)
        stream.close()
