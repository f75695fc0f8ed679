"""Write what the pages have from the code: signatures, docstrings, schemas, configs.

python docs/generate.py            # write
python docs/generate.py --check    # fail if a page is not what would be written
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from pages import algorithms, api, command_line, configuration, parts

DOCS = Path(__file__).resolve().parent
PAGES: dict[str, Callable[[], str]] = {
    'algorithms.md': algorithms.page,
    'api.md': api.page,
    'command_line.md': command_line.page,
    'configuration.md': configuration.page,
    'parts.md': parts.page,
}
"""Pages that are written as a whole."""


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true')
    check = parser.parse_args().check
    stale = []
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if not path.is_file() or path.read_text(encoding='utf-8') != text:
            stale.append(f'docs/{name}')
            if not check:
                path.write_text(text, encoding='utf-8')
    if check and stale:
        print(f'{", ".join(stale)}: out of date; run python docs/generate.py', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
