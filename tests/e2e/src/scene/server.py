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

# One request in so many is answered with 503, where a release has that file; never /healthz.
FAIL_EACH = int(open("fail.txt").read()) if os.path.exists("fail.txt") else 0

# It shows no metrics, where a release has that file.
MUTE = os.path.exists("mute.txt")

# Requests by their status, of this process; those of /healthz and /metrics are not counted.
BEGAN = time.time()
counted = {200: 0, 503: 0}
counting = threading.Lock()


def metrics():
    lines = [f'http_requests_total{{code="{code}"}} {count}' for code, count in counted.items()]
    lines += [f"process_start_time_seconds {BEGAN}", f"app_backlog {len(RELEASE)}"]
    return "# TYPE http_requests_total counter\n" + "\n".join(lines) + "\n"


def answer_to(path):
    """The status and the body."""
    if path == b"/healthz":
        return 200, "ok\n"
    if path == b"/metrics":
        return (404, "no\n") if MUTE else (200, metrics())
    with counting:
        number = sum(counted.values()) + 1
        status = 503 if FAIL_EACH and number % FAIL_EACH == 0 else 200
        counted[status] += 1
    return status, "ok\n"


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
                status, body = answer_to(head.split(b" ")[1])
                answer = (
                    f"HTTP/1.1 {status} {'OK' if status == 200 else 'No'}\r\nContent-Length: {len(body)}\r\n"
                    f"X-Release: {RELEASE}\r\nConnection: {'close' if close else 'keep-alive'}\r\n\r\n{body}"
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
