"""unpack_wheels.py: what it makes, and what it refuses."""
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

SCRIPT = Path(__file__).with_name("unpack_wheels.py")


class UnpackWheels(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)
        (self.place / "wheels").mkdir()

    def wheel(self, name="hello-1.0-py3-none-any.whl", **more):
        files = {
            "hello.py": "def main():\n    print('hello')\n    return 3\n",
            "hello-1.0.dist-info/METADATA": "Name: hello\n",
            "hello-1.0.dist-info/entry_points.txt": "[console_scripts]\nhello = hello:main\n",
        } | more
        with zipfile.ZipFile(self.place / "wheels" / name, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)

    def unpack(self):
        return subprocess.run(
            [sys.executable, "-B", SCRIPT, "wheels", "venv"], cwd=self.place, capture_output=True, text=True
        )

    def run_hello(self, **options):
        return subprocess.run(
            [self.place / "venv/bin/hello"], capture_output=True, text=True, **options
        )

    def test_a_package_its_command_and_its_exit_code(self):
        self.wheel()
        self.assertEqual(self.unpack().returncode, 0)
        done = self.run_hello()
        self.assertEqual((done.stdout, done.returncode), ("hello\n", 3))

    def test_compiled_code_goes_beside_the_environment(self):
        self.wheel()
        self.unpack()
        self.run_hello(env={"PATH": "/usr/bin:/bin"})
        self.assertTrue(list((self.place / "pycache").rglob("hello*.pyc")))
        self.assertFalse(list((self.place / "venv").rglob("hello*.pyc")))

    def test_it_can_be_repeated_and_leaves_nothing_of_the_last_time(self):
        self.wheel()
        self.unpack()
        stray = self.place / "venv/stray"
        stray.touch()
        self.assertEqual(self.unpack().returncode, 0)
        self.assertFalse(stray.exists())

    def test_no_wheels(self):
        done = self.unpack()
        self.assertEqual(done.returncode, 1)
        self.assertIn("holds no wheel", done.stderr)

    def test_a_wheel_with_compiled_code_is_refused(self):
        self.wheel("fast-1.0-cp311-cp311-linux_x86_64.whl")
        done = self.unpack()
        self.assertEqual(done.returncode, 1)
        self.assertIn("holds compiled code", done.stderr)
        self.assertFalse((self.place / "venv").exists())

    def test_a_wheel_that_needs_an_installer_is_refused(self):
        self.wheel(**{"hello-1.0.data/scripts/hello": "#!python\n"})
        done = self.unpack()
        self.assertEqual(done.returncode, 1)
        self.assertIn("need an installer", done.stderr)


if __name__ == "__main__":
    unittest.main()
