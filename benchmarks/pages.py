"""Write into the docs what they have from files of results.

python -m benchmarks.pages            # writes the tables
python -m benchmarks.pages --check    # only says which pages are not up to date

Between ``<!-- table: NAME -->`` and ``<!-- until here -->`` a page has the table of that name.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import (
    convolution_sweep,
    damaged_files,
    interval_coverage,
    kills,
    latency_error,
    nasbench201_collapse,
    printed,
    ranks,
    readme,
    search_growth,
    speed_tables,
    watching,
    width_step,
    worked_tables,
)
from .quality import page as quality
from .rows import ROOT

__all__ = ['PAGES', 'TABLES', 'main', 'names_in', 'with_tables']

PAGES = (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')))
TABLES: dict[str, Callable[[], str]] = {
    **convolution_sweep.TABLES,
    **damaged_files.TABLES,
    **interval_coverage.TABLES,
    **kills.TABLES,
    **latency_error.TABLES,
    **nasbench201_collapse.TABLES,
    **printed.TABLES,
    **quality.TABLES,
    **ranks.TABLES,
    **readme.TABLES,
    **search_growth.TABLES,
    **speed_tables.TABLES,
    **watching.TABLES,
    **width_step.TABLES,
    **worked_tables.TABLES,
}
"""What makes each table, by its name."""

PLACE = re.compile(r'(<!-- table: (\S+) -->\n).*?(<!-- until here -->\n)', re.DOTALL)


def names_in(text: str) -> list[str]:
    """Return the names of the tables of a page, also of those that no benchmark makes."""
    return re.findall(r'<!-- table: (\S+) -->', text)


def with_tables(text: str) -> str:
    """Return a page with its tables up to date.

    Raises:
        KeyError: No benchmark makes a table of that name.
    """
    return PLACE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main(argv: Sequence[str] | None = None, pages: Sequence[Path] = PAGES) -> int:
    """Write the tables, or say which pages are not up to date."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks.pages', description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing')
    args = parser.parse_args(argv)
    old = []
    for path in pages:
        text = path.read_text(encoding='utf-8')
        if (new := with_tables(text)) != text:
            old.append(path.name)
            if not args.check:
                path.write_text(new, encoding='utf-8')
    if args.check and old:
        print(f'Not up to date: {", ".join(old)}; run python -m benchmarks.pages')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
