"""What each release of the history must do, without Landfall: python test_history.py PYTHON

Makes the history twice, then takes the tags in order through one database as a
host would: static files, migration, server, health check. PYTHON is a Python
that has the packages of requirements.txt. The styles are left out (they need
Node.js).
"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = sys.executable
TAGS = ["v1.3", "v1.4", "v1.5", "v1.6", "v1.7"]


def run(*command, **options):
    """The output of a command that must succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


class Server:
    """One release's gunicorn on a socket that is held here, as an agent holds it."""

    def __init__(self, release, environment):
        self.held = socket.socket()
        self.held.bind(("127.0.0.1", 0))
        self.held.listen(128)
        self.url = f"http://127.0.0.1:{self.held.getsockname()[1]}"
        take = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); "
            "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}; "
            "os.execv(sys.executable, [sys.executable, '-m', 'gunicorn', '-c', 'gunicorn.conf.py', 'tenants.wsgi'])"
        )
        self.process = subprocess.Popen(
            [PYTHON, "-c", take, str(self.held.fileno())], pass_fds=[self.held.fileno()], cwd=release,
            env=environment | {"LANDFALL_RELEASE": release.name}, stderr=subprocess.DEVNULL,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)
        self.held.close()

    def get(self, path):
        """The status and the text of one answer; the held socket makes a request wait for the start."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()

    def health(self):
        status, body = self.get("/healthz")
        return status, json.loads(body)


class History(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        place = tempfile.TemporaryDirectory()
        cls.addClassCleanup(place.cleanup)
        cls.place = Path(place.name)
        cls.repository = cls.place / "repository"
        run("sh", HERE.parent / "make-history.sh", cls.repository)
        cls.environment = {
            "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "DJANGO_LOG_LEVEL": "CRITICAL",
            "TENANTS_SAMPLE_DATA": "1", "TENANTS_DATA_DIR": str(cls.place / "db"),
        }
        (cls.place / "db").mkdir()

    def release(self, tag):
        """The tree of a tag, built but for its styles."""
        tree = self.place / tag
        if not tree.exists():
            run("git", "clone", "--quiet", "-c", "advice.detachedHead=false", "--branch", tag, self.repository, tree)
            style = tree / "housing/static/housing/tenants.css"
            style.parent.mkdir(parents=True)
            style.write_text("body { color: black }\n" * 50)
            run("python3", "deploy/build_messages.py", cwd=tree)
            run(PYTHON, "manage.py", "collectstatic", "--noinput", cwd=tree, env=self.environment)
        return tree

    def migrate(self, tag):
        return subprocess.run(
            [PYTHON, "manage.py", "migrate", "--noinput"], cwd=self.release(tag), env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )

    def server(self, tag):
        return Server(self.release(tag), self.environment)

    def serves(self, tag):
        """Asserts that a release is healthy and shows its pages."""
        with self.server(tag) as server:
            self.assertEqual(server.health()[0], 200, server.health())
            self.assertIn("Lindenhof", server.get("/")[1])
            self.assertIn("Anke Vogel", server.get("/charges/")[1])
            run(PYTHON, "smoke.py", server.url, cwd=self.release(tag), env={"LANDFALL_RELEASE": tag})

    def test_the_same_commits_each_time(self):
        again = self.place / "again"
        run("sh", HERE.parent / "make-history.sh", again, env={"PATH": os.environ["PATH"], "TZ": "America/Lima"})
        refs = [run("git", "-C", where, "for-each-ref") for where in (self.repository, again)]
        self.assertEqual(*refs)
        for tag in TAGS:
            self.assertIn(tag, refs[0])
            notes = run("git", "-C", self.repository, "tag", "--list", "--format=%(objecttype) %(contents)", tag)
            self.assertTrue(notes.startswith(f"tag {tag}: "), notes)
            self.assertIn("[[service]]", run("git", "-C", self.repository, "show", f"{tag}:landfall.toml"))

    def test_one_database_goes_through_all_releases(self):
        self.assertEqual(self.migrate("v1.3").returncode, 0)
        self.serves("v1.3")

        self.assertIn("0002_charge_paid_on", self.migrate("v1.4").stdout)
        self.serves("v1.4")
        # The way back: the old code on the new schema.
        self.serves("v1.3")

        self.assertIn("No migrations to apply", self.migrate("v1.5").stdout)
        with self.server("v1.5") as server:
            status, health = server.health()
            self.assertEqual(status, 503)
            self.assertIn("TENANTS_STATEMENT_SENDER", health["problems"][0])
            self.assertEqual(health["release"], "v1.5")
            self.assertEqual(health["ppid"], server.process.pid)

        failed = self.migrate("v1.6")
        self.assertEqual(failed.returncode, 1)
        self.assertIn("housing/accounts.csv", failed.stdout.splitlines()[-1])
        # The first of its two migrations was applied, and harms neither release.
        self.serves("v1.4")
        self.serves("v1.3")

        self.assertEqual(self.migrate("v1.7").returncode, 0)
        self.serves("v1.7")
        with self.server("v1.7") as server:
            started = time.monotonic()
            self.assertEqual(server.health()[0], 200)
            ready = time.monotonic() - started
            started = time.monotonic()
            self.assertEqual(server.get("/")[0], 200)
            # It waits in vain, 2 s at the start and 0.4 s at each view.
            self.assertGreater(ready, 2.0)
            self.assertGreater(time.monotonic() - started, 0.4)

    def test_each_release_passes_its_own_tests(self):
        for tag in TAGS:
            if tag in ("v1.3", "v1.6"):
                continue  # v1.3 is tested by test.sh; the tests of v1.6 find its migration broken.
            with self.subTest(tag):
                run(PYTHON, "manage.py", "test", "--verbosity", "0", cwd=self.release(tag), env=self.environment)

    def test_v16_fails_its_own_tests(self):
        tests = subprocess.run(
            [PYTHON, "manage.py", "test"], cwd=self.release("v1.6"), env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        self.assertNotEqual(tests.returncode, 0)
        self.assertIn("accounts.csv", tests.stderr)


if __name__ == "__main__":
    unittest.main()
