"""Run the example of README.md, and draw what it found into docs/images/readme.png.

python -m benchmarks.readme --keep
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
from collections.abc import Sequence
from typing import Any

from mmrazor_mutators.views.draw_networks import draw_network
from mmrazor_mutators.views.networks import view_network

from .markdown import as_printed
from .rows import ROOT, Row, add_keep, results

RESULTS = results('readme', 'example')


def said(rows: Sequence[Row]) -> str:
    """Return what the example has printed, as it stands below it."""
    (row,) = rows
    return as_printed(row['lines'])


TABLES = {'readme': lambda: said(RESULTS.read())}


def main() -> None:
    """Run the example, print what it prints, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_keep(parser)
    args = parser.parse_args()
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    code = re.findall(r'^```python\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)[0]
    names: dict[str, Any] = {'__name__': '__main__'}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, 'README.md', 'exec'), names)
    sys.stdout.write(out.getvalue())
    if not args.keep:
        return
    RESULTS.put([{'example': 'README.md', 'lines': out.getvalue().splitlines()}])
    view = view_network(names['net'], names['mutator'].search_subnet(), names['images'][:1])
    draw_network(view, ROOT / 'docs' / 'images' / 'readme.png')


if __name__ == '__main__':
    main()
