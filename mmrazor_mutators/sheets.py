"""Small tables that read well in a terminal and in a notebook."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence

__all__ = ['Sheet']

_WIDTH = 80


class Sheet:
    """A table with a title; notebooks show it as HTML, all else as text of 80 columns.

    Args:
        title: What it is about.
        columns: Their names.
        rows: One text for each column.

    >>> Sheet('Two of them', ['name', 'what'], [['a', 'first'], ['bc', 'second']])
    Two of them
      name  what
      a     first
      bc    second
    """

    def __init__(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
    ) -> None:
        self.title = title
        self.columns = tuple(columns)
        self.rows = tuple(map(tuple, rows))

    def __repr__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns) - 1)]
        written = [self.title]
        for line in lines:
            cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
            start = '  '.join(['', *cells, ''])
            room = max(_WIDTH - len(start), 24)
            parts = textwrap.wrap(line[-1], room, break_on_hyphens=False) or ['']
            written.append((start + parts[0]).rstrip())
            written += [' ' * len(start) + part for part in parts[1:]]
        return '\n'.join(written)

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            style = ' style="text-align:left;vertical-align:top"'
            return ''.join(f'<{tag}{style}>{html.escape(cell)}</{tag}>' for cell in cells)

        body = ''.join(f'<tr>{row(cells, "td")}</tr>' for cells in self.rows)
        head = f'<thead><tr>{row(self.columns, "th")}</tr></thead>'
        title = html.escape(self.title)
        return f'<table><caption>{title}</caption>{head}<tbody>{body}</tbody></table>'
