"""How long a search step takes, against the same search as everybody writes it.

    python -m benchmarks.search_step                     # the table, on one thread
    python -m benchmarks.search_step --cases darts-8     # one row of it
    python -m benchmarks.search_step --compile           # the library compiled
    MMRAZOR_MUTATORS_NATIVE=0 python -m benchmarks.search_step   # without its kernels

Each pair of timings is one step of the reference (naive_searches.py: a plain loop in NCHW, all
gradients in both steps, nothing shared) and one of the library, in turn, with the same
weights and batches. The table has the medians of the CPU time of the process, the median
ratio of the pairs with its range, the largest memory that a step holds beyond what it
begins with, and how long the bare convolutions take.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

# The profiler that counts memory tells about itself otherwise.
os.environ.update(KINETO_LOG_LEVEL='99', TORCH_CPP_LOG_LEVEL='ERROR')

import torch
import torch.nn.functional as F
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators.kernels import native
from mmrazor_mutators.search.memory import peak_bytes

from . import naive_searches as naive
from .rows import Row, add_keep
from .speed_tables import CASES, METHODS, OPTIONS, RESULTS, table

Step = Callable[[], None]


def build(space: str, depth: int | None = None) -> tuple[nn.Module, Any]:
    """Return a supernet of the library, and the reference: 8 layers, or 5 cells a stage."""
    common = {'in_channels': 3, 'num_classes': 10, 'base_channels': 16}
    depth = depth or {'darts': 8, 'nasbench201': 5}[space]
    if space == 'darts':
        cfg = {'type': 'DartsSupernet', 'num_layers': depth}
        return mm.build_architecture({**common, **cfg}), naive.NaiveDarts(16, depth)
    cfg = {'type': 'NasBench201Supernet', 'num_cells': depth}
    return mm.build_architecture({**common, **cfg}), naive.NaiveNasBench201(16, depth)


def copy_values(supernet: nn.Module, mutator: Any, reference: Any) -> None:
    """Give a supernet and its mutator the values of the reference."""
    alphas = {id(alpha) for alpha in reference.alphas}
    theirs = [p for p in reference.parameters() if id(p) not in alphas]
    rows = [row for alpha in reference.alphas for row in alpha]
    with torch.no_grad():
        for mine, value in zip(supernet.parameters(), theirs, strict=True):
            mine.copy_(value)
        logits = mutator.arch_params
        # Normal cells first, as in the reference.
        names = sorted(logits, key=lambda name: name.startswith('reduce'))
        for name, row in zip(names, rows, strict=True):
            logits[name].copy_(row)


def library_search(supernet: nn.Module, mutator: Any, method: str, **options: Any) -> Any:
    """Return a search of the library, with the optimizers that its configs build."""
    return mm.BilevelSearch(
        supernet,
        mutator,
        F.cross_entropy,
        torch.optim.SGD(
            supernet.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4, fused=True
        ),
        torch.optim.Adam(
            mutator.arch_params.values(),
            lr=3e-4,
            betas=(0.5, 0.999),
            weight_decay=1e-3,
            fused=True,
        ),
        'first_order' if method == 'gdas' else method,
        grad_clip=5.0,
        **options,
    )


def steps_of(
    space: str, batch: int, method: str, args: argparse.Namespace
) -> tuple[Step, Step, nn.Module, torch.Tensor]:
    """Return a step of the reference, one of the library, its supernet and its images."""
    torch.manual_seed(0)
    device = torch.device(args.device)
    supernet, reference = build(space)
    kind = 'GDASMutator' if method == 'gdas' else 'DartsMutator'
    mutator = mm.build_mutator({'type': kind})
    mutator.prepare_from_supernet(supernet)
    copy_values(supernet, mutator, reference)
    supernet.to(device, memory_format=torch.channels_last)
    mutator.to(device)
    reference.to(device)
    images = torch.randn(batch, 3, args.size, args.size, device=device)
    targets = torch.randint(10, (batch,), device=device)
    ours = (images.contiguous(memory_format=torch.channels_last), targets)
    options = {
        'compile': {'mode': args.mode} if args.compile and args.mode else args.compile,
        'checkpoint_cells': args.checkpoint_cells,
        'autocast': args.autocast,
    }
    search = library_search(supernet, mutator, method, **options)
    second = method in ('finite_difference', 'exact')
    theirs = naive.NaiveSearch(reference, second_order=second)
    return (
        lambda: theirs.step((images, targets), (images, targets)),
        lambda: search.step(ours, ours),
        supernet,
        ours[0],
    )


def seconds(step: Step, device: str) -> tuple[float, float]:
    """Return CPU time of the process and wall time of a step."""
    cuda = device.startswith('cuda')
    if cuda:
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    if cuda:
        torch.cuda.synchronize()
    return time.process_time() - cpu, time.perf_counter() - wall


def bare_convolutions(
    supernet: nn.Module, images: torch.Tensor, repeat: int, device: str
) -> float:
    """Return the seconds of nothing but the convolutions of a first-order step.

    Each runs forward twice, for its input's gradient twice and for its weight's once.
    """
    calls: list[tuple[nn.Conv2d, torch.Tensor]] = []

    def note(module: Any, inputs: Any, _: Any) -> None:
        calls.append((module, torch.empty_like(inputs[0])))

    convs = [m for m in supernet.modules() if isinstance(m, nn.Conv2d)]
    hooks = [m.register_forward_hook(note) for m in convs]
    with torch.no_grad():
        supernet(images)
    for hook in hooks:
        hook.remove()
    timings = []
    for _ in range(repeat):
        total = 0.0
        for conv, like in calls:
            x = torch.randn_like(like).requires_grad_()
            out = conv(x)
            grad = torch.randn_like(out)

            def arch(conv: Any = conv, x: Any = x, grad: Any = grad) -> None:
                torch.autograd.grad(conv(x), x, grad)

            def both(conv: Any = conv, x: Any = x, grad: Any = grad) -> None:
                torch.autograd.grad(conv(x), (x, conv.weight), grad)

            total += seconds(arch, device)[0] + seconds(both, device)[0]
        timings.append(total)
    return median(timings)


def measure(case: str, method: str, args: argparse.Namespace) -> Row:
    """Time pairs of steps, one of each in turn."""
    theirs, ours, supernet, images = steps_of(*CASES[case], method, args)
    first = seconds(ours, args.device)[1]
    for step in (theirs, ours):
        for _ in range(args.warmup):
            step()
    pairs = [
        (seconds(theirs, args.device), seconds(ours, args.device)) for _ in range(args.pairs)
    ]
    which = 1 if args.device.startswith('cuda') else 0
    ratios = [a[which] / b[which] for a, b in pairs]
    memory = [peak_bytes(step, args.device) / 2**20 for step in (theirs, ours)]
    row = {
        'case': case,
        'method': method,
        'device': args.device,
        'size': args.size,
        'kernels': native.available(),
        'compile': args.compile,
        'checkpoint_cells': args.checkpoint_cells,
        'autocast': args.autocast,
        'pairs': args.pairs,
        'reference_seconds': median(a[which] for a, _ in pairs),
        'library_seconds': median(b[which] for _, b in pairs),
        'ratio': [median(ratios), min(ratios), max(ratios)],
        'reference_mib': memory[0],
        'library_mib': memory[1],
        'first_seconds': first,
    }
    if method == 'first_order' and not any(row[name] for name in OPTIONS[1:]):
        row['bare_seconds'] = bare_convolutions(supernet, images, 3, args.device)
    return row


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES))
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS))
    parser.add_argument('--pairs', type=int, default=5)
    parser.add_argument('--warmup', type=int, default=1)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--size', type=int, default=32, help='height and width of an image')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--compile', action='store_true')
    parser.add_argument('--mode', help="of torch.compile, such as 'reduce-overhead'")
    parser.add_argument('--checkpoint-cells', action='store_true')
    parser.add_argument('--autocast', choices=['bfloat16'])
    add_keep(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else 'CPU'
    print(f'torch {torch.__version__}, {where}, {args.threads} thread(s)', flush=True)
    rows = []
    for case in args.cases:
        for method in args.methods:
            row = measure(case, method, args)
            took = f'{row["library_seconds"]:.3f} s, the first {row["first_seconds"]:.1f} s'
            print(f'{case}, {method}: {row["ratio"][0]:.2f}x, {took}', flush=True)
            rows.append(row)
            if args.keep:
                RESULTS.put([row])
    print(f'\n{table(rows)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
