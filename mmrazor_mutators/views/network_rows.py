"""The layers of a network found, with what was chosen, as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich import box
from rich.table import Table
from rich.text import Text

__all__ = [
    'Decision',
    'NetworkRow',
    'NetworkView',
    'network_table',
    'short',
    'told',
    'widths_of',
]


@dataclass(frozen=True)
class Decision:
    """What was chosen in a space.

    Attributes:
        space_id: The space.
        chosen: The choices made.
        left_out: Those that were not.
    """

    space_id: str
    chosen: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass
class NetworkRow:
    """A layer, with the norm and activation that follow it.

    Attributes:
        name: Of the layer in the network; of the original if it is left out.
        kinds: What it is and what follows it, such as ``['Conv2d 3x3', 'ReLU']``.
        in_features: Channels that it reads; 0 where nobody knows.
        out_features: Channels that it returns.
        full_features: Those of the original, before widths were chosen.
        output: Shape for one sample.
        params: Numbers that are learnt.
        macs: Multiply-adds for one sample.
        decisions: What was chosen here.
        source: Index of the row that it reads, -1 for none that is known.
        is_left_out: Whether the original has it and the network has not.
    """

    name: str
    kinds: list[str]
    in_features: int = 0
    out_features: int = 0
    full_features: int = 0
    output: tuple[int, ...] = ()
    params: int = 0
    macs: float = 0.0
    decisions: list[Decision] = field(default_factory=list)
    source: int = -1
    is_left_out: bool = False


@dataclass(frozen=True)
class NetworkView:
    """A network found.

    Attributes:
        title: Class of the supernet.
        rows: Its layers, in the order in which they run.
        params: Numbers that are learnt, all of them.
        macs: Multiply-adds for one sample, all of them.
    """

    title: str
    rows: tuple[NetworkRow, ...]
    params: int
    macs: float


def network_table(view: NetworkView) -> Table:
    """Lay a network out as a table for a rich console."""
    title = f'{view.title}: {view.params:,} parameters, {short(view.macs)} multiply-adds'
    table = Table(title=Text(title, style='bold'), box=box.SIMPLE_HEAD)
    for column in ('layer', 'what', 'chosen', 'left out'):
        table.add_column(column, overflow='fold')
    for column in ('width', 'params', 'macs'):
        table.add_column(column, justify='right')
    for row in view.rows:
        width = widths_of(row)
        cells = [row.name, ', '.join(row.kinds), *told(row.decisions), width]
        cells += ['', ''] if row.is_left_out else [f'{row.params:,}', short(row.macs)]
        table.add_row(*map(Text, cells), style='dim' if row.is_left_out else None)
    return table


def widths_of(row: NetworkRow) -> str:
    """Return the width of a layer, and the original one where that is another.

    >>> widths_of(NetworkRow('fc', ['Linear'], 3, 8, 16))
    '8 of 16'
    """
    if not row.out_features:
        return ''
    if row.full_features == row.out_features:
        return str(row.out_features)
    return f'{row.out_features} of {row.full_features}'


def told(decisions: list[Decision]) -> tuple[str, str]:
    """Return what was chosen and what was not, each as one text."""
    chosen = ', '.join(name for d in decisions for name in d.chosen)
    return chosen, ', '.join(name for d in decisions for name in d.left_out)


def short(number: float) -> str:
    """Return a number in a few letters.

    >>> short(0), short(950), short(1234567)
    ('0', '950', '1.23M')
    """
    for size, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if number >= size:
            return f'{number / size:.3g}{letter}'
    return f'{number:.3g}'
