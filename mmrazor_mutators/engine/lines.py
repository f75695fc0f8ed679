"""Lines that fit a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console

__all__ = ['WIDTH', 'fitted', 'split_command', 'width_of']

WIDTH = 80
"""How many characters a line may have where nobody says it."""


def width_of(console: Console) -> int:
    """Return how many characters a line may have; 80 where the output is no terminal."""
    return console.width if console.is_terminal else WIDTH


def fitted(parts: Iterable[str], last: str = '', width: int = WIDTH) -> str:
    """Return what fits a line of some parts, with the first and the last in any case.

    Args:
        parts: In the order of their importance; empty ones are left out.
        last: Stands at the end.
        width: Of the line.

    >>> fitted(['search 1/2', 'loss 2.344', 'n1_p0=nor_conv_3x3', 'skips 2'], '1.2s', 42)
    'search 1/2  loss 2.344  skips 2  1.2s'
    """
    first, *others = filter(None, parts)
    line = first
    room = width - (len(last) + 2 if last else 0)
    for part in others:
        if len(line) + 2 + len(part) <= room:
            line += f'  {part}'
    return f'{line}  {last}' if last else line


def split_command(lead: str, words: Sequence[str], width: int = WIDTH) -> str:
    r"""Return a command for a shell, which goes on in further lines where it is long.

    Args:
        lead: What stands before it.
        words: Quoted, those of a line each.
        width: Of a line; no word is split.

    >>> split_command('Draw it: ', ['show work_dirs/a', '--out cells.png'])
    'Draw it:  show work_dirs/a --out cells.png'
    >>> print(split_command('Draw it: ', ['show work_dirs/a', '--out cells.png'], 32))
    Draw it:  show work_dirs/a \
                --out cells.png
    """
    line = ' '.join([lead, *words])
    if len(line) <= width:
        return line
    return f' \\\n{" " * (len(lead) + 3)}'.join([f'{lead} {words[0]}', *words[1:]])
