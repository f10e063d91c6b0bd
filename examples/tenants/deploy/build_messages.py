"""Build: compiles each locale/*/LC_MESSAGES/django.po to the .mo that Django reads.

`manage.py compilemessages` needs GNU gettext, a Debian package; polib, a wheel,
does the same, so the build asks for nothing but Python. It is read straight
from its wheel, since nothing else needs it.
"""
import re
import subprocess
import sys
from pathlib import Path

WHEELS = Path(".build/wheels")


def main():
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--only-binary", ":all:", "--no-deps",
         "--require-hashes", "--wheel-dir", str(WHEELS), "-r", "requirements-build.txt"],
        check=True,
    )
    sys.path[:0] = [str(wheel) for wheel in WHEELS.glob("*.whl")]
    import polib

    sources = sorted(Path(".").glob("*/locale/*/LC_MESSAGES/*.po"))
    if not sources:
        sys.exit("no .po file found; run this in the application's top directory")
    for source in sources:
        # The check refuses a file whose syntax or placeholders msgfmt would refuse.
        messages = polib.pofile(str(source), check_for_duplicates=True)
        if broken := [entry.msgid for entry in messages if entry.msgstr and not same_names(entry)]:
            sys.exit(f"{source}: other placeholders than the original: {broken}")
        messages.save_as_mofile(str(source.with_suffix(".mo")))
        print(f"{source}: {messages.percent_translated()} % of {len(messages)} translated")


def same_names(entry):
    """Whether a translation names the same %(…)s as its original."""
    names = re.compile(r"%\(\w+\)[sd]")
    return set(names.findall(entry.msgid)) == set(names.findall(entry.msgstr))


if __name__ == "__main__":
    main()
