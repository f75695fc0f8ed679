"""Run the commands of the pages, and keep what they print as it stands below them.

python -m benchmarks.printed                         # all pages
python -m benchmarks.printed quick_start.md --keep
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .markdown import as_printed
from .rows import ROOT, Row, add_keep, results

RESULTS = results('printed', 'name')

BEGINS = {
    'printed-search': 'space ',
    'printed-retrain': 'Test accuracy after',
    'printed-export': 'Wrote ',
    'printed-compare': 'Test accuracy after',
    'printed-show': '30 epochs noted',
}
"""With what the first line begins that is shown; what comes before it is progress."""

PICTURES = {
    'quick_start.md': ('found.png', 'quick_start.png'),
    'watching.md': ('longer.png', 'watching.png'),
}
"""What the commands of a page draw, and how it is called in docs/images."""

_PART = re.compile(
    r'^```bash\n(.*?)^```$|<!-- table: (printed-\S+) -->', re.DOTALL | re.MULTILINE
)


def commands_of(text: str) -> Iterator[tuple[str, str]]:
    r"""Yield the places for output of a page, each with the commands since the one before.

    Those that install the library are left out.

    >>> page = '```bash\nfirst\n```\n```bash\nsecond\n```\n<!-- table: printed-x -->'
    >>> [*commands_of(page)]
    [('printed-x', 'first\nsecond\n')]
    """
    commands = ''
    for block, name in _PART.findall(text):
        if name:
            yield name, commands
            commands = ''
        elif 'pip install' not in block:
            commands += block


def shown(output: str, begins: str) -> list[str]:
    r"""Return the lines from the last one that begins so.

    >>> shown('epoch 1\nWrote a \n\n', 'Wrote')
    ['Wrote a']
    """
    lines = [line.rstrip() for line in output.rstrip().splitlines()]
    starts = [n for n, line in enumerate(lines) if line.lstrip().startswith(begins)]
    if not starts:
        raise SystemExit(f'Expected a line that begins with {begins!r}, but got:\n{output}')
    return lines[starts[-1] :]


def run_page(path: Path, folder: Path) -> Iterator[Row]:
    """Run what is shown of a page, one command after the other, and yield what they print.

    Args:
        path: Of the page.
        folder: In which the commands are run; they find the configs and examples there.
    """
    for name in ('configs', 'examples'):
        (folder / name).symlink_to(ROOT / name)
    programs = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    for name, block in commands_of(path.read_text(encoding='utf-8')):
        done = subprocess.run(
            ['sh', '-e', '-c', block],
            cwd=folder,
            env={**os.environ, 'PATH': programs, 'OMP_NUM_THREADS': '1', 'COLUMNS': '80'},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        lines = shown(done.stdout, BEGINS[name])
        yield {'name': name, 'page': path.name, 'commands': block, 'lines': lines, 'threads': 1}


def printed(name: str) -> str:
    """Return what the commands of that name have printed."""
    (row,) = (row for row in RESULTS.read() if row['name'] == name)
    return as_printed(row['lines'])


TABLES = {name: lambda name=name: printed(name) for name in BEGINS}


def main(argv: Sequence[str] | None = None) -> None:
    """Print what the commands print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    pages = ['quick_start.md', 'comparing.md', 'watching.md']
    parser.add_argument('pages', nargs='*', choices=pages, default=pages, metavar='PAGE')
    add_keep(parser)
    args = parser.parse_args(argv)
    for page in args.pages:
        with tempfile.TemporaryDirectory() as folder:
            for row in run_page(ROOT / 'docs' / page, Path(folder)):
                print('\n'.join(row['lines']), flush=True)
                if args.keep:
                    RESULTS.put([row])
            if args.keep and page in PICTURES:
                drawn, kept = PICTURES[page]
                shutil.copyfile(Path(folder) / drawn, ROOT / 'docs' / 'images' / kept)


if __name__ == '__main__':
    main()
