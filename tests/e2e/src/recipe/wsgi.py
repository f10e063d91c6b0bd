"""The application that the recipes for WSGI servers serve in the tests."""

import os
import time

# The service runs in its release's directory, releases/<name>.
SHARED = "../../shared"

with open("release.txt") as file:
    RELEASE = file.read().strip()

if RELEASE == "v3":
    raise RuntimeError("the settings of v3 name a database that is not there")


def application(environ, start_response):
    if environ["PATH_INFO"] == "/long":
        # An export that takes as long as the test wants.
        with open(f"{SHARED}/long-has-begun", "w"):
            pass
        while not os.path.exists(f"{SHARED}/long-may-end"):
            time.sleep(0.02)
    headers = [("Content-Type", "text/plain"), ("Content-Length", "3"), ("X-Release", RELEASE)]
    start_response("200 OK", headers)
    return [b"ok\n"]
