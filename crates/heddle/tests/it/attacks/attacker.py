"""Tries what each line of its standard input says; for each a line with what came back, or `nothing`.

A line is `tcp ADDRESS PORT TEXT` or `udp ADDRESS PORT TEXT`; in the text, `\\r\\n` and `\\x..` stand for bytes.
"""
import socket
import sys
import threading


def attempt(line, results, place):
    kind, address, port, text = line.split(" ", 3)
    data = text.encode().decode("unicode_escape").encode("latin-1")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    own = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    own.settimeout(4 if kind == "tcp" else 1.5)
    try:
        own.connect((address, int(port)))
        own.send(data)
        answer = own.recv(2000)
        results[place] = repr(answer) if answer else "nothing"
    except OSError:
        results[place] = "nothing"


lines = sys.argv[1:]
results = [None] * len(lines)
threads = [threading.Thread(target=attempt, args=(line, results, place)) for place, line in enumerate(lines)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("\n".join(results), flush=True)
