"""How often a 95% interval of a mean difference holds the truth: Student's t and bootstrap.

python -m benchmarks.interval_coverage
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit
from scipy.stats import bootstrap

from .markdown import made_from, markdown
from .rows import Row, add_keep, results

RESULTS = results('intervals', 'pairs', 'law')
LAWS = {
    'normal': lambda rng, shape: rng.normal(size=shape),
    'skewed (exponential)': lambda rng, shape: rng.exponential(size=shape) - 1,
    'heavy tails (t of 3)': lambda rng, shape: rng.standard_t(3, size=shape),
}
"""Differences whose mean is 0."""


def table(rows: Sequence[Row]) -> str:
    """Return how often either interval held the truth."""
    lines = [['seeds', 'differences', "Student's t", 'bootstrap']]
    for row in rows:
        shares = (f'{row[name]:.1%}' for name in ('student', 'bootstrap'))
        lines.append([str(row['pairs']), row['law'], *shares])
    return markdown(lines, numbers=True)


TABLES = {'intervals': made_from(RESULTS, table)}


def main() -> None:
    """Print a row for each number of pairs and law."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--pairs', type=int, nargs='+', default=[3, 10, 30])
    parser.add_argument('--tries', type=int, default=4000)
    add_keep(parser)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = []
    for pairs in args.pairs:
        for name, draw in LAWS.items():
            drawn = draw(rng, (args.tries, pairs))
            half = stdtrit(pairs - 1, 0.975) * drawn.std(1, ddof=1) / pairs**0.5
            by_t = np.mean(abs(drawn.mean(1)) <= half)
            found = bootstrap(
                (drawn,), np.mean, axis=1, n_resamples=1999, batch=100, random_state=rng
            ).confidence_interval
            resampled = np.mean((found.low <= 0) & (found.high >= 0))
            row = {'pairs': pairs, 'law': name, 'tries': args.tries}
            rows.append({**row, 'student': float(by_t), 'bootstrap': float(resampled)})
    if args.keep:
        RESULTS.put(rows)
    print(table(rows))


if __name__ == '__main__':
    main()
