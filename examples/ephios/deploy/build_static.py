"""Build: static files as `python -m ephios build` makes them, and the style sheets and scripts that ephios would
otherwise put together as each page is first asked for, on each server for itself, inside its own static files. On a
host those are read-only: ephios finds what it would have written, and writes nothing.
"""
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
# Required by ephios' settings, and of no meaning here; nothing of it gets into the release.
os.environ.update(
    DEBUG="False",
    ALLOWED_HOSTS="localhost",
    SITE_URL="https://localhost",
    SECRET_KEY="unused-while-building",
    DATABASE_URL="sqlite://:memory:",
    EMAIL_URL="dummymail://",
    DEFAULT_FROM_EMAIL="root@localhost",
    SERVER_EMAIL="root@localhost",
    ADMINS="root@localhost",
    ENV_PATH=os.devnull,
    DATA_DIR=str(HERE / ".build/data"),
    DJANGO_SETTINGS_MODULE="ephios_settings",
)
sys.path[:0] = [str(HERE), str(HERE / "site-packages")]

import django  # noqa: E402

django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402

call_command("collectstatic", interactive=False, verbosity=1)
call_command("compilejsi18n", verbosity=0)
settings.COMPRESS_OFFLINE = True
settings.COMPRESS_OFFLINE_CONTEXT = [{"LANGUAGE_CODE": code} for code, _ in settings.LANGUAGES]
try:
    call_command("compress", verbosity=0)
except CommandError as problem:
    # A page that names a file which is not there: its others are made all the same.
    print(f"ephios {settings.EPHIOS_VERSION} has a page that cannot work: {problem}")
# Two pages that need the same file at the same moment each save it, one of them under a name that nobody asks for.
for twin in (HERE / "static/CACHE").glob("*/output_*"):
    twin.unlink()
