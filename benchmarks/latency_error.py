"""How far a latency profile is from exported networks: 20 random subnets of each example.

python -m benchmarks.latency_error --networks 20
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

import mmrazor_mutators as mm
from examples.models import Characters, MobileNet, ResNet, Series, UNet
from mmrazor_mutators.costs import latency_model, profile_latency, time_call
from mmrazor_mutators.engine.config import load_config

from .markdown import made_from, markdown
from .rows import ROOT, Row, add_keep, results

RESULTS = results('latency', 'example')
TITLES = {
    'resnet': 'ResNet, one image',
    'mobilenet': 'MobileNetV2-like, 64 images',
    'characters': 'transformer of characters, one text',
    'series': '1-d convolutions, one series',
    'unet': 'U-Net, one image',
}
NETWORKS = {
    'resnet': (ResNet, torch.zeros(1, 1, 8, 8)),
    'mobilenet': (MobileNet, torch.zeros(64, 1, 8, 8)),
    'characters': (Characters, torch.zeros(1, 64, dtype=torch.long)),
    'series': (Series, torch.zeros(1, 1, 64)),
    'unet': (UNet, torch.zeros(1, 1, 8, 8)),
}


def table(rows: Sequence[Row]) -> str:
    """Return the table of times and errors."""
    lines = [['example', 'milliseconds of the networks', 'median error', 'largest error']]
    for name, title in TITLES.items():
        for row in rows:
            if row['example'] == name:
                low, high = min(row['measured_ms']), max(row['measured_ms'])
                errors = row['errors']
                shown = f'{statistics.median(errors):.1%}', f'{max(errors):.1%}'
                lines.append([title, f'{low:.2f} to {high:.2f}', *shown])
    return markdown(lines)


TABLES = {'latency': made_from(RESULTS, table)}


def main() -> None:
    """Print the median and the largest error of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--networks', type=int, default=20)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--only', choices=NETWORKS, help='one of them')
    add_keep(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[Row] = []
    for name, (build, x) in NETWORKS.items():
        if args.only not in (None, name):
            continue
        rules = load_config(ROOT / f'configs/examples/{name}.py').model.architecture.rules
        supernet = mm.make_searchable(build(), rules, x)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'latency.json'
            profile_latency(supernet, path)
            model = latency_model(supernet, path)
        mutator = mm.DartsMutator()
        mutator.prepare_from_supernet(supernet)
        errors, seen = [], []
        for seed in range(1000, 1000 + args.networks):  # Others than those of the fit.
            subnet = mutator.random_subnet(seed)
            net = mutator.export_subnet(supernet, subnet).eval()
            told = model.of({sid: entry['chosen'] for sid, entry in subnet.items()})
            measured = 1e3 * statistics.median(time_call(net, ((x,), {}), seconds=0.5))
            errors.append(abs(told / measured - 1))
            seen.append(measured)
        rows.append({'example': name, 'measured_ms': seen, 'errors': errors})
        if args.keep:
            RESULTS.put(rows[-1:])
    print(table(rows))


if __name__ == '__main__':
    main()
