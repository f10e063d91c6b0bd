"""What the project promises as a whole."""
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.test import TestCase

from housing.models import Condominium
from housing.sample import fill


class Project(TestCase):
    def test_no_migration_was_forgotten(self):
        call_command("makemigrations", check=True, dry_run=True, stdout=io.StringIO())

    def test_sample_data_is_made_once(self):
        self.assertEqual(fill(), 3)
        self.assertEqual(fill(), 0)
        self.assertEqual(Condominium.objects.count(), 3)


class Processes(TestCase):
    """Several processes on one SQLite file, as during a release."""

    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.environment = {
            "PATH": os.environ["PATH"], "TENANTS_DATA_DIR": place.name, "DJANGO_SETTINGS_MODULE": "tenants.settings",
        }
        self.place = Path(place.name)

    def start(self, code):
        return subprocess.Popen(
            [sys.executable, "-c", f"import django; django.setup()\n{code}"], env=self.environment,
            cwd=settings.BASE_DIR, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )

    def test_processes_that_start_together_share_one_secret_key(self):
        together = [self.start("from django.conf import settings; print(settings.SECRET_KEY)") for _ in range(4)]
        keys = {process.communicate(timeout=60)[0] for process in together}
        self.assertEqual(len(keys), 1)
        self.assertEqual([path.name for path in self.place.iterdir()], ["secret_key"])
        self.assertEqual((self.place / "secret_key").stat().st_mode & 0o777, 0o600)

    def test_writers_wait_for_each_other(self):
        migrate = self.start("from django.core.management import call_command; call_command('migrate', verbosity=0)")
        self.assertEqual((migrate.communicate(timeout=60)[0], migrate.returncode), ("", 0))
        writers = [
            self.start(
                "from django.db import transaction\n"
                "from housing.models import Condominium\n"
                "for n in range(50):\n"
                "    with transaction.atomic():\n"
                "        Condominium.objects.count()\n"
                f"        Condominium.objects.create(name='{letter}' + str(n))\n"
            )
            for letter in "abc"
        ]
        for writer in writers:
            self.assertEqual((writer.communicate(timeout=60)[0], writer.returncode), ("", 0))
        count = self.start("from housing.models import Condominium; print(Condominium.objects.count())")
        self.assertEqual(count.communicate(timeout=60)[0].strip(), "150")
