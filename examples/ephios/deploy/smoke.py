"""Smoke test of a running server: python3 smoke.py ADDRESS

What a first visitor would do: the page to log in, in both languages, its style sheet and its scripts. Uses the
standard library only, so that it says something about the application and nothing about itself.
"""
import os
import re
import sys
import urllib.request


def get(path, language="en"):
    """The text at a path; anything but a success raises."""
    headers = {"X-Forwarded-Proto": "https", "Host": "localhost", "Accept-Language": language}
    with urllib.request.urlopen(urllib.request.Request(base + path, headers=headers), timeout=30) as response:
        served = response.headers.get("X-Release")
        return response.read().decode(), served


def main():
    page, served = get("/accounts/login/")
    expected = os.environ.get("LANDFALL_RELEASE")
    assert expected in (None, served), f"{served} answers, not {expected}"
    assert "Password" in page, "the page to log in has no password"
    assert "Passwort" in get("/accounts/login/", "de")[0], "the German page is not German: are the messages compiled?"

    # nginx serves them out of this directory; here it is enough that they are in the release.
    files = re.findall(rf'(?:href|src)="/static/{re.escape(served)}/([^"]+)"', page)
    assert any(name.endswith(".css") for name in files), "the page names no style sheet"
    assert any(name.endswith(".js") for name in files), "the page names no script"
    missing = [name for name in files if not os.path.exists(os.path.join("static", name.split("?")[0]))]
    assert not missing, f"these files of the page are not in the release: {missing}"
    print(f"smoke: {base} serves {served} with {len(files)} static files")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    base = sys.argv[1].rstrip("/")
    try:
        main()
    except (AssertionError, OSError) as problem:
        sys.exit(f"smoke: {problem}")
