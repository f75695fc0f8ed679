"""Compare the convolutions of PyTorch with float64, as processors of several ages run them.

    python -m benchmarks.convolution_sweep           # a minute
    python -m benchmarks.convolution_sweep --full    # ten minutes

Forms run in processes of their own, which may crash or hang.  What is compared are the
output, both gradients, and the derivatives of the gradients.  The error of a sum of n
products is at most n times the rounding of float32, times the sum of their absolute values.
All of these are sums of products, so both numbers come from the same program: the first if
it runs on ones, the second if it runs on absolute values.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .convolution_forms import Form, convolve, laid_out, sample, tensors_of
from .markdown import made_from, markdown
from .rows import ROOT, Row, add_keep, results

RESULTS = results('convolutions', 'form')
OTHERS = 'all others'
PROCESSORS = {
    'SSE4.1': {'ONEDNN_MAX_CPU_ISA': 'SSE41', 'ATEN_CPU_CAPABILITY': 'default'},
    'AVX2': {'ONEDNN_MAX_CPU_ISA': 'AVX2', 'ATEN_CPU_CAPABILITY': 'avx2'},
    'this one': {},
}
STAGES = ('output', 'gradients', 'second derivatives')
SECONDS = 20
"""After which a process hangs."""
TOGETHER = 20
"""So many forms run in one process; each of them alone where something is wrong."""


def stages_of(form: Form, tensors: Sequence[Tensor], dtype: Any) -> Iterator[list[Tensor]]:
    """Yield what each of the stages computes."""
    x, weight, grad, u, v = (t.to(dtype) for t in tensors)
    x = laid_out(x, form.layout).requires_grad_()
    weight = laid_out(weight, form.weight).requires_grad_()
    grad = grad.requires_grad_()
    out = convolve(form, x, weight)
    yield [out]
    # As in an ordinary step, and as for a gradient that is differentiated again.
    torch.autograd.grad(out, (x, weight), grad, retain_graph=True)
    found = torch.autograd.grad(out, (x, weight), grad, create_graph=True)
    yield list(found)
    yield list(torch.autograd.grad(found, (x, weight, grad), (u, v)))


def judge(form: Form) -> Iterator[tuple[str, float]]:
    """Yield each stage with its error, in units of the largest that rounding explains."""
    torch.set_num_threads(form.threads)
    eps = torch.finfo(torch.float32).eps
    tensors = tensors_of(form)
    usual = form._replace(layout='first', weight='first')
    exact = stages_of(usual, tensors, torch.float64)
    sizes = stages_of(usual, [t.abs() for t in tensors], torch.float64)
    counts = stages_of(usual, [torch.ones_like(t) for t in tensors], torch.float64)
    for stage, ours, *others in zip(
        STAGES, stages_of(form, tensors, torch.float32), exact, sizes, counts, strict=True
    ):
        worst = 0.0
        for found, right, size, count in zip(ours, *others, strict=True):
            bound = (count + 2) * eps * size + torch.finfo(torch.float32).tiny
            ratio = ((found.double() - right).abs() / bound).max()
            worst = max(worst, float('inf') if ratio.isnan() else ratio.item())
        yield stage, worst


def run_apart(forms: Sequence[Form]) -> tuple[int, str, str] | None:
    """Run forms in a process of their own; return number, stage and fault of the first."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _report(forms, writer)
    os.close(writer)
    said, end = b'', time.monotonic() + SECONDS
    while select.select([reader], [], [], max(end - time.monotonic(), 0))[0]:
        part = os.read(reader, 4096)
        if not part:
            break
        said += part
    else:
        os.kill(child, signal.SIGKILL)
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    lines = [line.split(':', 2) for line in said.decode().splitlines()]
    for number, stage, found in lines:
        if stage not in STAGES:
            return int(number), stage, found
        if not float(found) <= 1:
            return int(number), stage, f'wrong, {float(found):.0e}'
    if not status:
        return None
    number, stage = divmod(len(lines), len(STAGES))
    fault = 'hung' if status == -signal.SIGKILL else signal.Signals(-status).name
    return number % len(forms), STAGES[stage], fault


def _report(forms: Sequence[Form], writer: int) -> None:
    """Judge forms, write what comes out, and end the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    number = 0
    try:
        for _ in range(2):  # Memory that was spoilt is noticed later.
            for number, form in enumerate(forms):
                for stage, error in judge(form):
                    os.write(writer, f'{number}:{stage}:{error}\n'.encode())
    except BaseException as error:
        os.write(writer, f'{number}:raised:{type(error).__name__} {error}\n'.encode())
    os._exit(0)


def run_here(forms: Sequence[Form]) -> None:
    """Run forms as this process would, and print a line for each that is not right."""
    weight = torch.ones(1, requires_grad=True)
    torch.autograd.grad(weight, weight, torch.ones(1))  # Imports what all children need.
    for first in range(0, len(forms), TOGETHER):
        group = forms[first : first + TOGETHER]
        together = run_apart(group)
        if together is None:
            continue
        alone = {n: found for n, form in enumerate(group) if (found := run_apart([form]))}
        if not alone and together[2] == 'hung':
            continue  # It was the machine that stood still.
        # What one of them has spoilt may show in another one, and by itself only now and then.
        alone = alone or {n: f for n, form in enumerate(group) if (f := run_apart([form] * 10))}
        for number, (_, stage, fault) in (alone or {together[0]: together}).items():
            print(json.dumps([first + number, stage, fault]), flush=True)


def sweep(count: int, processor: str) -> dict[int, tuple[str, str]]:
    """Return the stage and the fault of each form, by number, that is not right there."""
    command = [sys.executable, '-m', 'benchmarks.convolution_sweep', '--count', str(count)]
    environment = {
        **os.environ,
        **PROCESSORS[processor],
        'OMP_NUM_THREADS': '2',
        'GOMP_SPINCOUNT': '0',
    }
    run = subprocess.run(
        [*command, '--here'],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return {n: (stage, fault) for n, stage, fault in map(json.loads, run.stdout.splitlines())}


def table(rows: Sequence[Row]) -> str:
    """Return how many forms of each kind are wrong, on each processor."""
    lines = [['form', 'tried', *PROCESSORS]]
    for row in sorted(rows, key=lambda row: (row['form'] == OTHERS, row['form'])):
        wrong = [str(row['wrong'].get(processor) or '') for processor in PROCESSORS]
        lines.append([row['form'], f'{row["tried"]:,}', *wrong])
    return markdown(lines, numbers=True)


TABLES = {'convolutions': made_from(RESULTS, table)}


def main() -> None:
    """Print what is wrong, then a table of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--full', action='store_true', help='10,000 forms instead of 1,000')
    parser.add_argument('--count', type=int, help='so many forms')
    parser.add_argument('--here', action='store_true', help=argparse.SUPPRESS)
    add_keep(parser)
    args = parser.parse_args()
    count = args.count or (10_000 if args.full else 1_000)
    forms = sample(count)
    if args.here:
        run_here(forms)
        return
    total = Counter(form.family for form in forms)
    wrong: dict[str, Counter[str]] = {}
    for processor in PROCESSORS:
        found = sweep(count, processor)
        wrong[processor] = Counter(forms[n].family for n in found)
        for n, (stage, fault) in found.items():
            print(f'{processor}: {stage}: {fault}: {forms[n]}')
    rows = [
        {'form': family, 'tried': total[family], 'wrong': wrong_there}
        for family in total
        if (wrong_there := {name: w[family] for name, w in wrong.items() if w[family]})
    ]
    tried = total.total() - sum(row['tried'] for row in rows)
    rows.append({'form': OTHERS, 'tried': tried, 'wrong': {}})
    if args.keep:
        RESULTS.put(rows, instead=True)
    print(f'\n{table(rows)}')


if __name__ == '__main__':
    main()
