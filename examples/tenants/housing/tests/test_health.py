"""/healthz: 200 only when this process can serve."""
import os
from unittest.mock import patch

from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import TestCase, override_settings

from tenants import health


class Health(TestCase):
    def setUp(self):
        # Each test begins as a process that was just started.
        patcher = patch.object(health, "_migrated", False)
        patcher.start()
        self.addCleanup(patcher.stop)

    @override_settings(RELEASE="v9.9")
    def test_it_names_the_release_and_the_process(self):
        answer = self.client.get("/healthz")
        self.assertEqual(answer.status_code, 200)
        self.assertEqual(
            answer.json(),
            {"status": "ok", "release": "v9.9", "pid": os.getpid(), "ppid": os.getppid()},
        )
        self.assertIn("no-store", answer["Cache-Control"])

    def test_a_missing_migration_is_named(self):
        MigrationRecorder(connection).record_unapplied("housing", "0001_initial")
        answer = self.client.get("/healthz")
        self.assertEqual(answer.status_code, 503)
        self.assertEqual(answer.json()["problems"], ["migration housing.0001_initial is not applied"])

    def test_a_database_ahead_of_the_code_is_healthy(self):
        MigrationRecorder(connection).record_applied("housing", "9999_from_a_later_release")
        self.assertEqual(self.client.get("/healthz").status_code, 200)

    def test_a_database_that_does_not_answer_is_reported(self):
        for migrated in [False, True]:
            health._migrated = migrated
            with patch.object(connection, "cursor", side_effect=OperationalError("gone")):
                answer = self.client.get("/healthz")
            self.assertEqual(answer.status_code, 503)
            self.assertEqual(answer.json()["problems"], ["the database does not answer: gone"])

    def test_it_costs_one_query_once_the_migrations_were_seen(self):
        self.client.get("/healthz")
        with self.assertNumQueries(1):
            self.client.get("/healthz")
