"""Makes a virtual environment from a directory of wheels: no network, no pip.

    python3 unpack_wheels.py WHEELS VENV

A pure Python wheel is a zip file whose content belongs into site-packages as
it is, so unpacking is installing. pip does the same in seven times the time,
and a Debian host without python3-venv has no pip to put into an environment.
"""
import configparser
import shutil
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

SCRIPT = """#!{python}
import sys
from {module} import {function}
sys.exit({function}())
"""


def main(wheels, target):
    found = sorted(Path(wheels).glob("*.whl"))
    if not found:
        sys.exit(f"{wheels} holds no wheel: was the build step `wheels` run?")
    for wheel in found:
        if not wheel.name.endswith("-none-any.whl"):
            sys.exit(
                f"{wheel.name} holds compiled code, which this script does not install. Use\n"
                f"  {target}/bin/python -m pip install --no-index --find-links {wheels} …"
            )
    # A preparation that was cut short begins again.
    shutil.rmtree(target, ignore_errors=True)
    venv.create(target, symlinks=True)
    target = Path(target).resolve()
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(target)}))
    for wheel in found:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
    if unknown := [path.name for path in packages.glob("*.data")]:
        sys.exit(f"these wheels need an installer: {unknown}")
    # Compiled code goes beside the environment, not into the read-only release.
    cache = target.parent / "pycache"
    (packages / "pycache.pth").write_text(f"import sys; sys.pycache_prefix = {str(cache)!r}\n")
    for declaration in packages.glob("*.dist-info/entry_points.txt"):
        write_scripts(declaration, target / "bin")


def write_scripts(declaration, directory):
    """Writes the commands that a package declares, such as bin/gunicorn."""
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str
    parser.read(declaration)
    if not parser.has_section("console_scripts"):
        return
    for name, reference in parser["console_scripts"].items():
        module, function = reference.split("[")[0].strip().split(":")
        script = directory / name
        script.write_text(
            SCRIPT.format(python=directory / "python", module=module, function=function)
        )
        script.chmod(0o755)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
