"""Writes reference.tsv: the wealth of one who bets against a mean, as the package `confseq` computes it.

confseq is by the authors of the test (Waudby-Smith, Ramdas, Howard) and has wheels for Python 3.10:

    python3.10 -m venv venv && venv/bin/pip install confseq==0.0.11 'numpy<2'
    venv/bin/python reference.py > reference.tsv

A line has a name, the mean that is bet against, the figures, and the wealth after each of them.
"""

from importlib.metadata import version

import numpy as np
from confseq.betting import diversified_betting_mart

BETS = 32


def even_bet(bet):
    """The bet of a fraction of the wealth, always the same: `lambda` of the paper is that fraction over the mean."""
    return lambda figures, mean: np.repeat((bet + 0.5) / BETS / mean, len(figures))


def line(name, mean, figures):
    bets = [even_bet(bet) for bet in range(BETS)]
    wealth = diversified_betting_mart(figures, mean, bets, theta=1, trunc_scale=1)
    words = [name, repr(float(mean)), " ".join(repr(float(x)) for x in figures), " ".join(repr(float(x)) for x in wealth)]
    print("\t".join(words))


rng = np.random.default_rng(20261122)
print(f"# confseq {version('confseq')}, numpy {version('numpy')}")
for mean in (2 / 3, 0.5, 0.25, 0.05, 0.002):
    line("all worse", mean, np.ones(20))
    line("all within", mean, np.zeros(20))
    line("at the mean", mean, np.repeat(mean, 5))
    for probability in (0.3, mean, 0.95):
        line(f"0 or 1, {probability:.3g}", mean, (rng.random(40) < probability).astype(float))
    line("anything between", mean, rng.random(40))
    line("mostly small", mean, rng.beta(0.3, 3.0, 40).round(6))
