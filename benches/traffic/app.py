"""What is served: an application that takes a second to import, as those with a framework and a database do."""

import itertools
import time

with open("release.txt") as file:
    RELEASE = file.read().strip()

# Waiting and not working: two cores serve, ask, and release.
time.sleep(1)

pages = itertools.count()


def application(environ, start_response):
    if environ["PATH_INFO"] == "/page":
        # As long as a database takes, and for every tenth page a slow query. All other paths answer at once.
        time.sleep(0.005 if next(pages) % 10 else 0.050)
    headers = [("Content-Type", "text/plain"), ("Content-Length", "3"), ("X-Release", RELEASE)]
    start_response("200 OK", headers)
    return [b"ok\n"]
