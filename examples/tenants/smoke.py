"""Smoke test of a running server: python smoke.py URL

Asks for what a first visitor would: the front page, its style sheet, the page
in the other languages, and the release that answers. Uses the standard library
only, so that it says something about the application and nothing about itself.
"""
import json
import os
import re
import sys
import urllib.request


def get(url, **headers):
    """The text at a URL; anything but a success raises."""
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read().decode()


def main(base):
    page = get(f"{base}/", **{"Accept-Language": "en"})
    assert "Condominiums" in page, "the front page has no heading"

    style = re.search(r'href="(/static/[^"]+\.css)"', page)
    assert style, "the front page names no style sheet"
    assert len(get(base + style[1])) > 1000, f"{style[1]} is nearly empty"

    german = get(f"{base}/", **{"Accept-Language": "de"})
    assert "Wohnanlagen" in german, "the German page is not German: are the messages compiled?"
    spanish = get(f"{base}/charges/", **{"Accept-Language": "es"})
    assert "Cargos" in spanish, "the Spanish page is not Spanish: are the messages compiled?"

    health = json.loads(get(f"{base}/healthz"))
    expected = os.environ.get("LANDFALL_RELEASE")
    assert expected in (None, health["release"]), f"{health['release']} answers, not {expected}"
    print(f"smoke: {base} serves {health['release']}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1].rstrip("/"))
    except (AssertionError, OSError) as problem:
        sys.exit(f"smoke: {problem}")
