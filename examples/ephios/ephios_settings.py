"""ephios' own settings, and what differs where releases are read-only and there is more than one server.

Everything else is said in .env: https://docs.ephios.de/en/stable/admin/deployment/manual/
"""
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
# ephios looks for .env and data/ two directories above its own, which is here: both are links to what outlives a
# release. Its static files are not: they belong to the release.
os.environ.setdefault("STATIC_ROOT", str(HERE / "static"))

from ephios.settings import *  # noqa: E402, F401, F403
from ephios.settings import CORE_PLUGINS, LOGGING  # noqa: E402, F401

# The name of the release is in the address of each static file, and nginx finds the release by it. Each server has
# the files of the old release and of the new one before the first of them switches, so a page finds its own
# style sheet whichever server is asked for it.
RELEASE = os.environ.get("LANDFALL_RELEASE", "unreleased")
STATIC_URL = f"/static/{RELEASE}/"
COMPRESS_URL = STATIC_URL
# What is put together while building must be, to the letter, what ephios would put together on a host: so addresses
# inside style sheets are relative (the name of the release is not known yet), and a file's age does not matter.
COMPRESS_CSS_HASHING_METHOD = "content"
COMPRESS_FILTERS = {
    "css": ["compressor.filters.css_default.CssRelativeFilter", "compressor.filters.cssmin.rCSSMinFilter"],
    "js": ["compressor.filters.jsmin.rJSMinFilter"],
}

# A file that several processes of several users rotate is lost sooner or later: what is logged goes to whoever
# started the process, which is the journal for the service and `ctl logs` for a step.
LOGGING["handlers"]["file"] = {"level": "DEBUG", "class": "logging.StreamHandler", "formatter": "default"}

# First of all: which release answered. Not ephios' own, and of use to whoever looks at two of them.
MIDDLEWARE = ["release_header.ReleaseHeaderMiddleware", *MIDDLEWARE]  # noqa: F405
