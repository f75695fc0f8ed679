"""How long it takes to note an epoch of a search, beside a step of it.

python -m benchmarks.watching           # two spaces, 20 notes each
python -m benchmarks.watching --notes 2
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

import mmrazor_mutators as mm

from .markdown import made_from, markdown
from .rows import Row, add_keep, results

RESULTS = results('watching', 'space')
SPACES = {
    'DARTS': {'type': 'DartsSupernet', 'num_layers': 5, 'num_nodes': 4, 'base_channels': 8},
    'NAS-Bench-201': {'type': 'NasBench201Supernet', 'num_cells': 1, 'base_channels': 8},
}


def seconds(call: Callable[[], Any], times: int = 1) -> float:
    """Return the processor's time for a call, averaged."""
    begun = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - begun) / times


def measured(cfg: dict[str, Any], notes: int = 20, batch_size: int = 64) -> dict[str, float]:
    """Return milliseconds of a note, of one with TensorBoard, a measurement, and a step."""
    torch.manual_seed(0)
    supernet = mm.build_architecture({**cfg, 'in_channels': 1, 'num_classes': 10})
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    batch = torch.randn(batch_size, 1, 8, 8), torch.randint(10, (batch_size,))
    search = mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.01),
        torch.optim.Adam(mutator.arch_params.values()),
    )
    search.step(batch, batch)
    found = {'step': seconds(lambda: search.step(batch, batch), 2)}
    with tempfile.TemporaryDirectory() as folder:
        epochs = iter(range(10**6))
        for name, options in (('note', {}), ('with TensorBoard', {'tensorboard': True})):
            monitor = mm.SearchMonitor(supernet, mutator, folder, **options)
            monitor.record(next(epochs), loss=0.0)
            found[name] = seconds(lambda m=monitor: m.record(next(epochs), loss=0.0), notes)
            monitor.close()
    loader = [batch] * 8
    monitor = mm.SearchMonitor(supernet, mutator, loader=loader, calibration=loader)
    found['measurement'] = seconds(lambda: monitor.record(0))
    return {name: 1e3 * value for name, value in found.items()}


def table(rows: Sequence[Row]) -> str:
    """Return the table of milliseconds."""
    what = ('note', 'with TensorBoard', 'measurement', 'step')
    heads = ('notes of an epoch', 'with TensorBoard', 'one measurement', 'a search step')
    lines = [['space', *(f'{head}, ms' for head in heads)]]
    lines += [[row['space'], *(f'{row[name]:.1f}' for name in what)] for row in rows]
    return markdown(lines, numbers=True)


TABLES = {'watching': made_from(RESULTS, table)}


def main() -> None:
    """Print a line for each space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--notes', type=int, default=20)
    add_keep(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [{'space': name, **measured(cfg, args.notes)} for name, cfg in SPACES.items()]
    if args.keep:
        RESULTS.put(rows)
    print(table(rows))


if __name__ == '__main__':
    main()
