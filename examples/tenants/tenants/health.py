"""Whether this process can serve: /healthz, asked several times a second.

Answers 200 only if the database answers and holds every migration that this
code needs. A database that is *ahead* of the code is fine: during a release,
and after a rollback, old code runs on the new schema.

While two servers overlap on one socket either may answer, so the answer names
the release, and the process with its parent, which is the server that was
started.
"""
import os

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader
from django.http import JsonResponse
from django.views.decorators.cache import never_cache

# Set once every migration was found applied. The files do not change while a
# release runs, so they are read and compared once, not at each probe.
_migrated = False


@never_cache
def healthz(request):
    """Reports the release, the process and, if it cannot serve, each reason."""
    problems = database_problems()
    body = {
        "status": "unavailable" if problems else "ok",
        "release": settings.RELEASE,
        "pid": os.getpid(),
        "ppid": os.getppid(),
    }
    if problems:
        body["problems"] = problems
    return JsonResponse(body, status=503 if problems else 200)


def database_problems():
    """Why the database cannot be used, as sentences; an empty list if it can."""
    global _migrated
    try:
        if _migrated:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM django_migrations LIMIT 1")
                cursor.fetchone()
            return []
        loader = MigrationLoader(connection)
        missing = sorted(set(loader.graph.nodes) - set(loader.applied_migrations))
    except DatabaseError as error:
        return [f"the database does not answer: {error}"]
    if missing:
        return [f"migration {app}.{name} is not applied" for app, name in missing]
    _migrated = True
    return []
