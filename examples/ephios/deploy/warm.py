"""Preparation: loads what the server loads, with the host's own settings, and keeps it compiled.

A release that cannot be imported on this host, or that misses something in .env, fails here, while the old release
goes on serving. The database is not asked: it is still that of the old release.
"""
import gunicorn.app.wsgiapp  # noqa: F401
import gunicorn.workers.gthread  # noqa: F401
from django.core.management import call_command
from django.urls import get_resolver

from ephios.wsgi import application  # noqa: F401

call_command("check", deploy=False)
# All views, and with them nearly all of the application.
get_resolver().url_patterns
