"""A hostile resolver, and servers that greet whoever connects: `resolver.py ADDRESS PORT [GREETERS]`."""
import socket
import struct
import sys
import threading

RIGHT, WRONG, ALIAS = "198.51.100.1", "198.51.100.66", "198.51.100.67"


def encode(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def record(name, address):
    return encode(name) + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(address)


def alias(name, other):
    data = encode(other)
    return encode(name) + struct.pack("!HHIH", 5, 1, 60, len(data)) + data


def message(number, name, kind, answers=(), others=()):
    head = struct.pack("!HHHHHH", number, 0x8180, 1, len(answers), 0, len(others))
    return head + encode(name) + struct.pack("!HH", kind, 1) + b"".join(answers) + b"".join(others)


def serve(address, port, rebound):
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.bind((address, port))
    elsewhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    elsewhere.bind((address, 0))
    print("resolving", flush=True)
    while True:
        query, peer = own.recvfrom(512)
        number = struct.unpack("!H", query[:2])[0]
        parts, place = [], 12
        while query[place]:
            parts.append(query[place + 1 : place + 1 + query[place]].decode())
            place += 1 + query[place]
        name = ".".join(parts).lower()
        kind = struct.unpack("!H", query[place + 1 : place + 3])[0]
        if kind != 1:
            own.sendto(message(number, name, kind), peer)
            continue
        lie = [record(name, WRONG)]
        if name.startswith("wrong-number."):
            own.sendto(message(number ^ 1, name, 1, lie), peer)
        elif name.startswith("wrong-source."):
            elsewhere.sendto(message(number, name, 1, lie), peer)
        elif name.startswith("wrong-question."):
            own.sendto(message(number, "right.example.com", 1, [record("right.example.com", WRONG)]), peer)
        if name.startswith("stray."):
            answer = message(number, name, 1, [record("other.example.com", WRONG)])
        elif name.startswith("alias."):
            answer = message(number, name, 1, [alias(name, "target.test"), record("target.test", ALIAS)])
        elif name.startswith("rebound."):
            answer = message(number, name, 1, [record(name, rebound)])
        elif name.startswith("lie."):
            answer = message(number, name, 1, lie)
        else:
            others = [record("other.example.com", WRONG)]
            answer = message(number, name, 1, [record(name, RIGHT)], others)
        own.sendto(answer, peer)


def greet(address, port):
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    own.bind((address, port))
    own.listen()
    while True:
        stream, _ = own.accept()
        stream.recv(1000)
        stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nwelcome")
        stream.close()


if len(sys.argv) > 4:
    for address in (RIGHT, WRONG, ALIAS):
        for port in (7000, 7001):
            threading.Thread(target=greet, args=(address, port), daemon=True).start()
serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
