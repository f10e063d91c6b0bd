"""Preparation: loads what the server loads, so that its start finds it compiled.

Two requests go straight into the WSGI application, on an empty database in
memory: one through the migrations, one through forms and templates. A release
that cannot be imported on this host, or a template that cannot be parsed, fails
here, while the old release goes on serving.
"""
import logging
import os
import sys
from pathlib import Path
from wsgiref.util import setup_testing_defaults

os.environ["DATABASE_URL"] = "sqlite://:memory:"
os.environ["DJANGO_SECRET_KEY"] = "unused-while-preparing"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gunicorn.app.wsgiapp  # noqa: E402
import gunicorn.workers.gthread  # noqa: E402, F401
from django.core.management import call_command  # noqa: E402

from tenants.wsgi import application  # noqa: E402


def status(path):
    """The status of one answer, such as 200."""
    seen = []
    environ = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    answer = application(environ, lambda line, headers: seen.append(int(line.split()[0])))
    b"".join(answer)
    answer.close()
    return seen[0]


call_command("check")
# 503: none of the migrations is applied to the empty database, as it must find.
for path, expected in [("/healthz", 503), ("/condominiums/add/", 200)]:
    logging.disable(logging.CRITICAL if expected == 503 else logging.NOTSET)
    if (found := status(path)) != expected:
        sys.exit(f"{path} answered {found} instead of {expected}")
