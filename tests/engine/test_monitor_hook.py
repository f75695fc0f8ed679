"""Searches of the command line are watched: once an epoch, also when they are resumed."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_runs
import torch
from mmengine.hooks import Hook
from tiny_runs import complaint, search

import mmrazor_mutators as mm
from mmrazor_mutators.engine import SearchMonitorHook
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.hooks.monitor import _checked, _sample
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.registry import DATASETS
from mmrazor_mutators.views.history import read_history

TWO = {'train_cfg__max_epochs': 2}


class Seen(Hook):
    """Keeps the outputs of all steps, and sends the process a signal within one."""

    steps: list[dict[str, float]] = []

    def __init__(self, stop: int = 0) -> None:
        self.stop = stop

    def before_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter + 1 == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.steps.append({name: float(value) for name, value in outputs.items()})


def hooks(**options: Any) -> str:
    return str([{'type': 'test_monitor_hook.Seen', **options}]).replace(' ', '')


def texts(folder: Path) -> list[str]:
    return [(folder / name).read_text() for name in ('epochs.csv', 'spaces.csv')]


@pytest.fixture(scope='module')
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, float]]]:
    """A search of two epochs, and the outputs of its steps."""
    folder = tmp_path_factory.mktemp('watched') / 'whole'
    Seen.steps = []
    assert search(folder, custom_hooks=hooks(), **TWO) == 0
    return folder, list(Seen.steps)


@pytest.fixture
def whole(watched: Any) -> Path:
    return watched[0]


def test_rows_are_averages_over_epochs_and_what_the_mutator_says(watched: Any) -> None:
    whole, outputs = watched
    history = read_history(whole)
    assert history.problems == ()
    assert history.epochs['epoch'].tolist() == [1, 2]
    steps = np.array_split(outputs, 2)
    for name in ('loss', 'arch_loss', 'accuracy'):
        means = [sum(step[name] for step in part) / len(part) for part in steps]
        np.testing.assert_allclose(history.epochs[name], means, rtol=1e-6)
    state = tiny_runs.weights_of(whole)
    for space_id, space in history.spaces.items():
        logits = state[f'mutator.arch_params.{space_id}'].double()
        np.testing.assert_allclose(space.logits[-1], logits, rtol=1e-6)
        np.testing.assert_allclose(space.probabilities[-1], logits.softmax(0), rtol=1e-6)
    subnet = mm.load_subnet(whole / 'subnet.yaml')
    skips = sum(entry['chosen'] == ['skip_connect'] for entry in subnet.values())
    assert history.epochs['skips'][-1] == skips


@pytest.mark.parametrize('stop', [2, 4])  # In the middle of an epoch; 4 is in the second.
def test_a_search_that_is_resumed_has_the_rows_of_one_that_is_not(
    whole: Path, stop: int, tmp_path: Path
) -> None:
    assert search(tmp_path, custom_hooks=hooks(stop=stop), **TWO) == 143
    assert read_history(tmp_path).num_epochs == (stop > 3)
    assert search(tmp_path, '--resume', **TWO) == 0
    assert texts(tmp_path) == texts(whole)


def test_a_search_that_begins_anew_forgets_the_old_rows(whole: Path, tmp_path: Path) -> None:
    assert search(tmp_path, **{**TWO, 'train_cfg__max_epochs': 3}) == 0
    assert search(tmp_path, custom_hooks=hooks(), **TWO) == 0
    assert texts(tmp_path) == texts(whole)


def test_nothing_of_the_search_changes(whole: Path, tmp_path: Path) -> None:
    assert search(tmp_path, '--measure', '2', '--tensorboard', **TWO) == 0
    mine, theirs = tiny_runs.weights_of(tmp_path), tiny_runs.weights_of(whole)
    assert all(torch.equal(mine[name], value) for name, value in theirs.items())
    history = read_history(tmp_path)
    measured = [history.epochs[f'{name}_accuracy'] for name in ('supernet', 'network')]
    for values in measured:
        assert np.isnan(values[0])
        assert 0 <= values[1] <= 1
    assert [*(tmp_path / 'tensorboard').glob('events.*')]


def test_accuracies_are_measured_on_the_images_of_the_architecture(tmp_path: Path) -> None:
    plain = "[{'type':'Normalize'}]"  # Without random crops.
    changes = {'train_cfg__arch_dataloader__dataset__transform': plain}
    assert search(tmp_path, '--measure', '1', **changes) == 0
    cfg = load_config(tmp_path / 'config.py')
    model = mm.MODELS.build(cfg.model)
    model.load_state_dict(tiny_runs.weights_of(tmp_path))
    data = DATASETS.build(cfg.train_cfg.arch_dataloader.dataset)
    images, labels = zip(*[data[index] for index in range(len(data))], strict=True)
    with torch.no_grad():
        predicted = model.architecture.eval()(torch.stack(images)).argmax(1)
    share = (predicted == torch.as_tensor(labels)).float().mean()
    measured = read_history(tmp_path).epochs['supernet_accuracy'][0]
    # One image may be a close call between classes, which other batches decide otherwise.
    assert measured == pytest.approx(float(share), abs=1.5 / len(labels))


def test_a_sample_is_drawn_from_all_images_and_stays_the_same() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(1000))
    loader = torch.utils.data.DataLoader(data, batch_size=10, shuffle=True)
    first, second = (torch.cat([batch[0] for batch in _sample(loader, 8)]) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert len(set(first.tolist())) == 80
    assert 350 < first.float().mean() < 650


def test_another_hook_takes_its_place(tmp_path: Path, capsys: Any) -> None:
    own = "[{'type':'SearchMonitorHook','measure':1,'batches':1}]"
    assert search(tmp_path / 'own', custom_hooks=own) == 0
    assert read_history(tmp_path / 'own').column('network_accuracy') is not None
    capsys.readouterr()
    assert search(tmp_path / 'both', '--measure', '2', custom_hooks=own) == 2
    assert re.search(
        r'Expected measure in the SearchMonitorHook of `custom_hooks`', complaint(capsys)
    )
    assert not (tmp_path / 'both' / 'epochs.csv').exists()


def test_options_of_no_use() -> None:
    with pytest.raises(ConfigError, match='`measure` to be an int of at least 0, but got -1'):
        SearchMonitorHook(measure=-1)
    with pytest.raises(ConfigError, match='`batches` to be an int of at least 1, but got 0'):
        SearchMonitorHook(batches=0)
    assert SearchMonitorHook.beside([SearchMonitorHook()], {}) == []
    assert SearchMonitorHook.beside([{'type': 'mmrazor_mutators.SearchMonitorHook'}], {}) == []
    assert SearchMonitorHook.beside([{'type': SearchMonitorHook}], {}) == []
    (hook,) = SearchMonitorHook.beside([{'type': 'EMAHook'}], {'measure': 3})
    assert isinstance(hook, SearchMonitorHook)
    assert hook.measure == 3


def test_a_measurement_that_cannot_be_taken_is_refused_at_once(
    tmp_path: Path, capsys: Any
) -> None:
    single = {'model__single_level': True, 'train_cfg__arch_dataloader': None}
    assert search(tmp_path, '--measure', '1', **single) == 2
    assert 'with an `arch_dataloader`, for measure=1' in complaint(capsys)
    assert not (tmp_path / 'config.py').exists()


@pytest.mark.parametrize('kept', [3, {'loss': 1.0}, {'loss': [1, 1]}, {1: [1.0, 1]}])
def test_sums_of_a_checkpoint_are_checked(kept: Any) -> None:
    assert _checked({'loss': [1.5, 2]}) == {'loss': (1.5, 2)}
    with pytest.raises(ConfigError, match=r'`epoch_sums` of a checkpoint .* but got '):
        _checked(kept)


def test_one_shot_searches_are_watched(tmp_path: Path) -> None:
    config = tiny_runs.CONFIGS / 'spos' / 'digits.py'
    changes = {
        'train_cfg__evolution__max_epoch': 1,
        'train_cfg__evolution__candidate_pool_size': 2,
        'train_cfg__evolution__num_mutation': 1,
        'train_cfg__evolution__num_crossover': 1,
        'train_cfg__evolution__candidate_top_k': 1,
        'train_cfg__calibration_batches': 1,
    }
    assert search(tmp_path, config=config, **changes) == 0
    history = read_history(tmp_path)
    assert history.column('loss') is not None
    assert history.spaces == {}
    assert len(json.loads((tmp_path / 'evolution.json').read_text())['evaluated']) == 2
