"""The application that the recipes for ASGI servers serve in the tests."""

import asyncio
import os

# The service runs in its release's directory, releases/<name>.
SHARED = "../../shared"

with open("release.txt") as file:
    RELEASE = file.read().strip()

if RELEASE == "v3":
    raise RuntimeError("the settings of v3 name a database that is not there")

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"3"), (b"x-release", RELEASE.encode())]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/long":
        # An export that takes as long as the test wants.
        with open(f"{SHARED}/long-has-begun", "w"):
            pass
        while not os.path.exists(f"{SHARED}/long-may-end"):
            await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"ok\n"})
