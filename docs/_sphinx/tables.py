"""Tables: those of options go row by row on phones, and long names break at their dots."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

_LAST = ('meaning', 'what it does')
_DOTTED = re.compile(r'\w+(\.\w+){2,}')


class OptionTables(SphinxTransform):
    """Give a class to every table whose last column is a text about the first."""

    default_priority = 810

    def apply(self, **kwargs: Any) -> None:
        """Mark the tables of a page."""
        for table in self.document.findall(nodes.table):
            head = next(iter(table.findall(nodes.thead)), None)
            cells = [] if head is None else list(head.findall(nodes.entry))
            if cells and cells[-1].astext() in _LAST:
                table['classes'].append('options')


class BreakableNames(SphinxPostTransform):
    """Let names in tables break after a dot; what is copied has no other characters."""

    default_priority = 900
    formats = ('html',)

    def run(self, **kwargs: Any) -> None:
        """Put the places in."""
        literals = [
            literal
            for table in self.document.findall(nodes.table)
            for literal in table.findall(nodes.literal)
            if _DOTTED.fullmatch(literal.astext())
        ]
        for literal in literals:
            first, *rest = literal.astext().split('.')
            literal.children = []
            literal += nodes.Text(first)
            for part in rest:
                literal += nodes.Text('.')
                literal += nodes.raw('', '<wbr>', format='html')
                literal += nodes.Text(part)


def setup(app: Any) -> dict[str, bool]:
    """Register both."""
    app.add_transform(OptionTables)
    app.add_post_transform(BreakableNames)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
