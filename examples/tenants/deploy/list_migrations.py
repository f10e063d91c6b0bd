"""Names the migrations of this application's own, one a line, for `ctl plan`.

What its packages bring (django.contrib.auth and the like) is not among them:
where the release is built, Django itself is not installed.
"""
from pathlib import Path

for migration in sorted(Path(".").glob("*/migrations/[0-9]*.py")):
    print(f"{migration.parts[-3]}.{migration.stem}")
