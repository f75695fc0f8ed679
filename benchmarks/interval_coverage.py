"""How often a 95% interval of a mean difference holds the truth: Student's t and bootstrap.

python benchmarks/interval_coverage.py
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import stdtrit
from scipy.stats import bootstrap

LAWS = {
    'normal': lambda rng, shape: rng.normal(size=shape),
    'skewed (exponential)': lambda rng, shape: rng.exponential(size=shape) - 1,
    'heavy tails (t of 3)': lambda rng, shape: rng.standard_t(3, size=shape),
}
"""Differences whose mean is 0."""


def main() -> None:
    """Print a row for each number of pairs and law."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--pairs', type=int, nargs='+', default=[3, 5, 10, 20, 30])
    parser.add_argument('--tries', type=int, default=4000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f'pairs  {"differences":22s}  t      bootstrap')
    for pairs in args.pairs:
        for name, draw in LAWS.items():
            drawn = draw(rng, (args.tries, pairs))
            half = stdtrit(pairs - 1, 0.975) * drawn.std(1, ddof=1) / pairs**0.5
            by_t = np.mean(abs(drawn.mean(1)) <= half)
            found = bootstrap(
                (drawn,), np.mean, axis=1, n_resamples=1999, batch=100, random_state=rng
            ).confidence_interval
            resampled = np.mean((found.low <= 0) & (found.high >= 0))
            print(f'{pairs:5d}  {name:22s}  {by_t:.1%}  {resampled:.1%}', flush=True)


if __name__ == '__main__':
    main()
