"""Writes reference.jsonl: texts in Prometheus' format, and what the package `prometheus_client` reads in them.

    python3 -m venv venv && venv/bin/pip install prometheus_client==0.26.0
    venv/bin/python reference.py > reference.jsonl

A line has a text and its samples (name, labels, value as `float.hex` writes it), or null where it is refused.
"""

import json
import random

from prometheus_client.parser import text_string_to_metric_families

LETTERS = ["a", "ß", " ", "\\\\", '\\"', "\\n", "{", "}", ",", "=", "#", "\\x", "\t"]
VALUES = ["0", "1", "-1.5", "2e3", "1e-7", "+Inf", "-Inf", "NaN", "1.", ".5", "+4", "12345678901234567890"]
BLANKS = ["", " ", "  ", "\t"]


def label(dice, name):
    value = "".join(dice.choice(LETTERS) for _ in range(dice.randrange(5)))
    return f"{name}=\"{value}\""


def line(dice):
    kind = dice.randrange(10)
    if kind == 0:
        return dice.choice(["", "# a comment", "# HELP a_total what \\n it is", "# TYPE a_total counter", "#", "   "])
    name = dice.choice(["a_total", "http_bucket", "a:b", "_c", "x9"])
    labels = ""
    if kind > 3:
        names = dice.sample(["a", "le", "_b", "code1"], dice.randrange(4))
        labels = "{" + ",".join(label(dice, name) for name in names) + dice.choice(["", "", ","]) + "}"
        labels = labels.replace("{,}", "{}")
    timestamp = dice.choice(["", "", "", " 1700000000000"])
    return f"{name}{dice.choice(BLANKS) if labels else ''}{labels}{dice.choice(BLANKS[1:])}{dice.choice(VALUES)}{timestamp}"


def bent(dice, text):
    at = dice.randrange(len(text) + 1)
    return text[:at] + dice.choice(["", '"', "}", "{", ",", "=", "x", "\\", " ", "\n"]) + text[at + dice.randrange(2) :]


def read(text):
    try:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except Exception:
        return None
    return [[sample.name, sorted(sample.labels.items()), float(sample.value).hex()] for sample in samples]


def main():
    dice = random.Random(20261121)
    for number in range(400):
        text = "\n".join(line(dice) for _ in range(dice.randrange(1, 5)))
        if number % 2:
            text = bent(dice, text)
        print(json.dumps({"text": text, "samples": read(text)}))


main()
