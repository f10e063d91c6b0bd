"""A small HTTP/1.1 server that a release can replace without losing a request."""

import os
import select
import signal
import socket
import threading
import time

with open("release.txt") as file:
    RELEASE = file.read().strip()

# How long each answer takes, where a release has that file.
DELAY_S = float(open("delay.txt").read()) if os.path.exists("delay.txt") else 0

# How many MiB it holds besides, where a release has that file; written to, so that they are there.
HOARD = b"x" * (int(open("hoard.txt").read()) << 20) if os.path.exists("hoard.txt") else b""

stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())


def serve(connection):
    received = b""
    with connection:
        while True:
            if not select.select([connection], [], [], 0.1)[0]:
                # Nothing was begun on this connection: it may be closed.
                if stopping.is_set() and not received:
                    return
                continue
            try:
                chunk = connection.recv(65536)
            except OSError:
                return
            if not chunk:
                return
            received += chunk
            while b"\r\n\r\n" in received:
                head, received = received.split(b"\r\n\r\n", 1)
                close = stopping.is_set() or b"connection: close" in head.lower()
                answer = (
                    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
                    f"X-Release: {RELEASE}\r\nConnection: {'close' if close else 'keep-alive'}\r\n\r\nok\n"
                )
                time.sleep(DELAY_S)
                try:
                    connection.sendall(answer.encode())
                except OSError:
                    return
                if close:
                    return


# The first socket is shared with the release before and the one after: whoever accepts a connection answers
# it. On the second one, which is this process's own, it is asked whether it is ready.
listeners = [socket.socket(fileno=3 + i) for i in range(int(os.environ["LISTEN_FDS"]))]
for listener in listeners:
    listener.setblocking(False)
while not stopping.is_set():
    for listener in select.select(listeners, [], [], 0.05)[0]:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            continue
        connection.setblocking(True)
        threading.Thread(target=serve, args=(connection,)).start()
