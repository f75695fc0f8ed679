"""Tables of options, which phones show row by row: names first, their meaning below."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.transforms import SphinxTransform

_LAST = ('meaning', 'what it does')


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


def setup(app: Any) -> dict[str, bool]:
    """Register the transform."""
    app.add_transform(OptionTables)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
