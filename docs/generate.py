"""Write what the pages have from the code: signatures, docstrings, schemas, configs.

python docs/generate.py            # write
python docs/generate.py --check    # fail if a page is not what would be written
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from pages import algorithms, api, command_line, configuration, hooks, parts

DOCS = Path(__file__).resolve().parent
PAGES: dict[str, Callable[[], str]] = {
    'algorithms.md': algorithms.page,
    'api.md': api.page,
    'command_line.md': command_line.page,
    'configuration.md': configuration.page,
    'parts.md': parts.page,
}
"""Pages that are written as a whole."""

SECTIONS: dict[str, tuple[str, Callable[[], str]]] = {
    'your_own_algorithm.md': ('hooks', hooks.section),
}
"""Pages with a part that is written, between two comments."""


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every page with the text that it should have."""
    for name, page in PAGES.items():
        yield DOCS / name, page()
    for name, (title, section) in SECTIONS.items():
        path = DOCS / name
        begin = f'<!-- {title}: written by python docs/generate.py -->\n'
        end = f'<!-- end of {title} -->'
        before, rest = path.read_text(encoding='utf-8').split(begin)
        yield path, f'{before}{begin}\n{section()}\n\n{end}{rest.split(end)[1]}'


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true')
    check = parser.parse_args().check
    stale = []
    for path, text in texts():
        if not path.is_file() or path.read_text(encoding='utf-8') != text:
            stale.append(f'docs/{path.name}')
            if not check:
                path.write_text(text, encoding='utf-8')
    if check and stale:
        print(f'{", ".join(stale)}: out of date; run python docs/generate.py', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
