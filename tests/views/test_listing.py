"""The list of parts: all that is registered, and what is asked for."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from mmrazor_mutators import registry
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.views.catalogue import KINDS as NAMES
from mmrazor_mutators.views.listing import list_parts

KINDS = {kind: getattr(registry, name) for kind, name in NAMES.items()}


def rows(kind: str | None = None, pattern: str | None = None) -> list[tuple[str, ...]]:
    """Return kind, name and summary of the parts in a list."""
    found = []
    for key in KINDS if kind is None else [kind]:
        table = list_parts(key, pattern)
        cells = {c.header: [str(cell) for cell in c.cells] for c in table.columns}
        summaries = cells.get('what it is') or ['.'] * len(cells['name'])
        found += [(key, *row) for row in zip(cells['name'], summaries, strict=True)]
    return found


def names(*args: Any) -> list[str]:
    return [name for _, name, _ in rows(*args)]


def test_every_registry_is_a_kind() -> None:
    registries = {
        value for value in vars(registry).values() if isinstance(value, registry.PartRegistry)
    }
    assert registries - {registry.MODELS} == set(KINDS.values())


@pytest.mark.parametrize('kind', KINDS)
def test_a_kind_lists_its_registry(kind: str) -> None:
    found = rows(kind)
    assert {row[0] for row in found} == {kind}
    assert [row[1] for row in found] == sorted(KINDS[kind].module_dict)
    for _, name, summary in found:
        assert summary.endswith('.'), name
        assert not set(summary) & set('`\\'), name


def test_all_kinds_in_their_order() -> None:
    cells = [[str(cell) for cell in column.cells] for column in list_parts().columns]
    assert [row[:2] for row in rows()] == [*zip(*cells[:2], strict=True)]
    plain = [row for row in rows() if row[0] != 'mutators']
    assert plain == [row for row in zip(*cells, strict=True) if row[0] != 'mutators']
    assert all(summary.endswith('.') for summary in cells[2])


def test_mutators_tell_what_they_sample_run_and_where_they_were_published() -> None:
    table = list_parts('mutators')
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    told = {name: tuple(rest) for name, *rest in zip(*cells, strict=True)}
    assert told['DartsMutator'] == ('nothing', 'all paths', 'Liu et al., ICLR 2019')
    assert told['GDASMutator'] == ('one choice (Gumbel)', 'one path', 'Dong & Yang, CVPR 2019')
    assert told['DifferentiableMutator'] == ('', '', '')
    silent = [name for name, traits in told.items() if not all(traits)]
    assert sorted(silent) == ['BaseMutator', 'DifferentiableMutator']
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert any(line.split()[:1] == ['GDASMutator'] for line in lines)
    assert len(lines) < 2 * len(told) + 6


# Each in a process in which nothing was listed before.
LAZY = """
import multiprocessing
from mmrazor_mutators.views.listing import list_parts

def look(kind, part):
    (column,) = [c for c in list_parts(kind).columns if c.header == 'name']
    assert part in [str(cell) for cell in column.cells]

kinds = [('datasets', 'Digits'), ('transforms', 'Cutout'), ('hooks', 'SearchSubnetHook')]
processes = [multiprocessing.get_context('fork').Process(target=look, args=k) for k in kinds]
for process in processes:
    process.start()
    process.join()
print([process.exitcode for process in processes])
"""


@pytest.mark.skipif(os.name == 'nt', reason='needs forks')
def test_lazy_registries_are_filled_first() -> None:
    words = [sys.executable, '-c', LAZY]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout == '[0, 0, 0]\n', done.stderr


def test_summaries_are_plain() -> None:
    summaries = {name: summary for _, name, summary in rows()}
    assert summaries['Digits'] == (
        '1797 grey images of 8x8 pixels in ten classes, bundled with scikit-learn.'
    )

    @registry.OPS.register_module('_Told')
    class Told:
        r"""A :class:`~a.Node` times ``x``: :math:`\mathrm{max}(\alpha\, x)`.

        And more.
        """

    @registry.OPS.register_module('_Untold')
    class Untold:
        __doc__ = None

    try:
        assert rows('ops', '_told') == [('ops', '_Told', 'A ~a.Node times x: max(alpha x).')]
        assert rows('ops', '_untold') == [('ops', '_Untold', '')]
    finally:
        for name in ('_Told', '_Untold'):
            del registry.OPS.module_dict[name], registry.MODELS.module_dict[name]


@pytest.mark.parametrize(
    ('pattern', 'found'),
    [
        ('Darts*', ['DartsDilConv', 'DartsPoolBN', 'DartsSepConv', 'DartsSkipConnect']),
        ('darts*C*', ['DartsDilConv', 'DartsSepConv', 'DartsSkipConnect']),
        ('conv', ['DartsDilConv', 'DartsSepConv', 'NasBench201Conv']),
        ('Darts???Conv', ['DartsDilConv', 'DartsSepConv']),
        ('Darts[d]*', ['DartsDilConv']),
        ('DartsZero', ['DartsZero']),
        ('Zer*', []),
    ],
)
def test_patterns(pattern: str, found: list[str]) -> None:
    assert [name for name in names('ops', pattern) if name != 'DartsZero'] == [
        name for name in found if name != 'DartsZero'
    ]
    assert ('DartsZero' in names('ops', pattern)) == (pattern in ('Darts*', 'DartsZero'))


def test_patterns_over_all_kinds() -> None:
    assert {row[:2] for row in rows(None, 'NasBench201S*')} == {
        ('ops', 'NasBench201SkipConnect'),
        ('architectures', 'NasBench201Supernet'),
    }


def test_the_table_says_what_was_not_found() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(list_parts('hooks', '[x]yz'), list_parts(None, 'nope'))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "No hooks match '[x]yz'." in text
    assert "No parts match 'nope'." in text


def test_an_unknown_kind() -> None:
    with pytest.raises(
        ConfigError, match=r"'mutator' is not a kind .*mean 'mutators'.*, hooks,"
    ):
        list_parts('mutator')
