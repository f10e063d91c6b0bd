"""Migration, once per rollout, on one host: a backup if anything is to be migrated, then the migrations.

Nobody but ephios' own authors can say whether the release before runs on the new schema, and they do not say it. So
there is a copy of what was before.
"""
import os
import subprocess

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.migrations.executor import MigrationExecutor  # noqa: E402


def main():
    executor = MigrationExecutor(connection)
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if pending and executor.loader.applied_migrations and connection.vendor == "postgresql":
        backup()
    call_command("migrate", interactive=False)
    # Its health page wants to have seen this once; from then on a timer does it on each host.
    call_command("run_periodic")


def backup():
    """Dumps the database, as it is before this release, beside the data that outlives releases."""
    directory = os.path.join(settings.DATA_DIR, "backups")
    os.makedirs(directory, exist_ok=True)
    file = os.path.join(directory, f"before-{settings.RELEASE}.dump")
    database = connection.get_connection_params()
    command = ["pg_dump", "--format=custom", f"--file={file}.partial", f"--dbname={database['dbname']}"]
    for option, key in [("--host", "host"), ("--port", "port"), ("--username", "user")]:
        if database.get(key):
            command.append(f"{option}={database[key]}")
    subprocess.run(command, check=True, env={**os.environ, "PGPASSWORD": database.get("password", "")})
    os.replace(f"{file}.partial", file)
    print(f"backup: {file}")


if __name__ == "__main__":
    main()
