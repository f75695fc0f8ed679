"""A comparison with random networks: what it runs, keeps, goes on with and refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_runs
import torch
from mmengine.config import Config
from test_one_shot_search import SMALL
from tiny_runs import CONFIGS, NB201, complaint, options

from mmrazor_mutators import cli
from mmrazor_mutators.engine.comparing import Run, compare, config_names, parts, runs
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.evolution import OneShotTrainLoop
from mmrazor_mutators.engine.hooks import seconds
from mmrazor_mutators.engine.loops import BilevelTrainLoop
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.mutables import load_subnet

GDAS = str(CONFIGS / 'gdas' / 'nasbench201_digits.py')
NAME = 'darts/nasbench201_digits'


def command(work_dir: Path, *arguments: str, configs: Any = (NB201,), **changes: Any) -> int:
    """Compare a config with one random network for one seed, unless told otherwise."""
    return cli.main(
        ['compare', *configs, '--work-dir', str(work_dir), '--seeds', '1']
        + [*arguments, *options(configs[0], **changes)]
    )


def told(work_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (work_dir / 'runs.jsonl').read_text().splitlines()]


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [{k: v for k, v in row.items() if k != 'search_seconds'} for row in rows]
    return [{**row, 'folder': row['folder'].split('/darts/')[-1]} for row in kept]


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that is finished, which no test may change."""
    work_dir = tmp_path_factory.mktemp('whole')
    assert command(work_dir) == 0
    return work_dir


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return tiny_runs.weights_of(folder)


def assert_equal_weights(ours: Path, theirs: Path) -> None:
    first, second = weights(ours), weights(theirs)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_parts_are_what_the_other_verbs_do(whole: Path, tmp_path: Path) -> None:
    folder = whole / NAME / 'seed_0'
    assert tiny_runs.search(tmp_path / 'search', '--seed', '0') == 0
    assert_equal_weights(tmp_path / 'search', folder / 'search')
    (row,) = told(whole)
    parts_and_results = [
        ('found', folder / 'search', row['accuracy'], row['parameters']),
        ('random_0', folder / 'random_0', *row['random_accuracies'], *row['random_parameters']),
    ]
    for part, source, accuracy, parameters in parts_and_results:
        subnet = source / 'subnet.yaml'
        assert tiny_runs.retrain(tmp_path / part, subnet, '--seed', '0') == 0
        results = json.loads((tmp_path / part / 'results.json').read_text())['found']
        assert (results['accuracy'], results['parameters']) == (accuracy, parameters)
        assert_equal_weights(tmp_path / part, folder / part)
    found, drawn = (load_subnet(folder / p / 'subnet.yaml') for p in ('search', 'random_0'))
    assert found != drawn


def test_what_is_finished_is_kept_and_what_is_new_is_added(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    work_dir = shutil.copytree(whole, tmp_path / 'run')
    begun: list[Any] = []
    for verb in ('search', 'retrain'):
        job = getattr(runs, verb)

        def counted(*args: Any, job: Any = job, **kwargs: Any) -> Any:
            begun.append(Path(args[-1]).relative_to(work_dir / NAME).as_posix())
            return job(*args, **kwargs)

        monkeypatch.setattr(runs, verb, counted)
    assert command(work_dir) == 0
    assert begun == []
    assert without_seconds(told(work_dir)) == without_seconds(told(whole))
    assert command(work_dir, '--seeds', '2', '--random', '2') == 0
    assert begun == ['seed_0/random_1'] + [
        f'seed_1/{part}' for part in ('search', 'found', 'random_0', 'random_1')
    ]
    first, second = told(work_dir)
    assert first['random_accuracies'][:1] == told(whole)[0]['random_accuracies']
    drawn = [
        load_subnet(work_dir / NAME / f'seed_{seed}' / f'random_{index}' / 'subnet.yaml')
        for seed in range(2)
        for index in range(2)
    ]
    assert all(a != b for i, a in enumerate(drawn) for b in drawn[:i])
    out = capsys.readouterr().out
    mean = (first['accuracy'] + second['accuracy']) / 2
    assert re.search(rf'found +│ +{mean:.2f}% ± ', out), out
    assert max(len(line) for line in out.splitlines() if line[:1] in '│┏└') <= 80
    assert out.count('random, 2 a seed') == 1


@pytest.mark.parametrize('stop', [0, pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_kill_between_parts_loses_nothing(
    stop: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    finish, calls = parts.Part.finish, []
    with monkeypatch.context() as patch:

        def finishing(self: Any, **facts: Any) -> None:
            calls.append(self)
            if len(calls) == stop + 1:
                raise KeyboardInterrupt
            finish(self, **facts)

        patch.setattr(parts.Part, 'finish', finishing)
        assert command(tmp_path / 'run') == 130
    err = capsys.readouterr().err
    assert f'Go on with: mmrazor-mutators compare {NB201} --work-dir' in err
    assert '--resume' not in err
    assert len([*(tmp_path / 'run').rglob('done.json')]) == stop
    assert command(tmp_path / 'run') == 0
    assert without_seconds(told(tmp_path / 'run')) == without_seconds(told(whole))
    for part in ('search', 'found', 'random_0'):
        place = Path(NAME, 'seed_0', part)
        assert_equal_weights(tmp_path / 'run' / place, whole / place)


@pytest.mark.parametrize('part', ['search', 'train'])
def test_a_stop_within_a_part_goes_on_bit_for_bit(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {'train_cfg__max_epochs': 2, 'retrain__train_cfg__max_epochs': 2}
    clock = [0.0]
    monkeypatch.setattr(seconds, 'time', SimpleNamespace(perf_counter=lambda: clock[0]))
    kind = BilevelTrainLoop if part == 'search' else BilevelTrainLoop.__mro__[1]
    epoch, epochs = kind.run_epoch, []

    def running(self: Any) -> None:
        epochs.append(self)
        clock[0] += 10
        if stopping and len(epochs) == (2 if part == 'search' else 4):
            raise KeyboardInterrupt
        epoch(self)

    monkeypatch.setattr(kind, 'run_epoch', running)
    stopping = False
    assert command(tmp_path / 'whole', **changes) == 0
    stopping = True
    epochs.clear()
    assert command(tmp_path / 'run', **changes) == 130
    stopping = False
    clock[0] += 1000
    epochs.clear()
    assert command(tmp_path / 'run', **changes) == 0
    # The second epoch of the part is run again, and random networks.
    assert len(epochs) == {'search': 1, 'train': 3}[part]
    assert without_seconds(told(tmp_path / 'run')) == without_seconds(told(tmp_path / 'whole'))
    assert told(tmp_path / 'run')[0]['search_seconds'] == 20
    place = Path(NAME, 'seed_0')
    for name in ('search', 'found', 'random_0'):
        assert_equal_weights(tmp_path / 'run' / place / name, tmp_path / 'whole' / place / name)


def test_algorithms_of_one_space_share_random_networks(
    whole: Path, tmp_path: Path, capsys: Any
) -> None:
    work_dir = shutil.copytree(whole, tmp_path / 'run')
    assert command(work_dir, configs=(NB201, GDAS)) == 0
    out = capsys.readouterr().out
    other = 'gdas/nasbench201_digits'
    assert f'{other}, seed 0: random 0: as in {NAME}/seed_0/random_0' in out
    darts, gdas = told(work_dir)
    assert [darts['config'], gdas['config']] == [NAME, other]
    assert darts['random_accuracies'] == gdas['random_accuracies']
    # It is what the part would have come to by itself.
    assert command(tmp_path / 'alone', configs=(GDAS,)) == 0
    (alone,) = told(tmp_path / 'alone')
    assert alone['random_accuracies'] == gdas['random_accuracies']
    assert alone['random_parameters'] == gdas['random_parameters']
    # And it is refused as well when the config has changed.
    assert command(work_dir, configs=(GDAS,), retrain__optim_wrapper__optimizer__lr=0.1) == 2
    assert 'optim_wrapper.optimizer.lr was 0.05 and is 0.1' in complaint(capsys)


def test_only_the_same_training_has_the_same_fingerprint(whole: Path) -> None:
    subnet = load_subnet(whole / NAME / 'seed_0' / 'random_0' / 'subnet.yaml')
    other = {**subnet, 'n1_p0': {'chosen': ['none']}}

    def mark(config: str = NB201, network: Any = subnet, **changes: Any) -> str | None:
        cfg = load_config(config, options(**changes)[1:])
        return parts.fingerprint(runs.retraining_config(runs.with_seed(cfg, 0)), network)

    ours = mark()
    assert ours is not None
    assert ours == mark() == mark(GDAS) == mark(train_cfg__max_epochs=3)
    assert ours == mark(optim_wrapper__mutator__optimizer__lr=1.0)
    different = [
        mark(network=other),
        mark(retrain__train_cfg__max_epochs=2),
        mark(retrain__optim_wrapper__optimizer__lr=0.1),
        mark(retrain__train_dataloader__batch_size=16),
        mark(test_dataloader__dataset__images_per_class=4),
        mark(model__architecture__base_channels=8),
        mark(custom_hooks="[{'type':'DropPathProbHook','max_prob':0.2}]"),
    ]
    assert len({ours, *different}) == len(different) + 1


def test_a_network_that_cannot_be_pickled_has_no_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model: Any = torch.nn.Linear(2, 3)
    model.local = lambda: 0
    monkeypatch.setattr(parts, 'build_model', lambda *_: model)
    cfg = runs.retraining_config(load_config(NB201))
    assert parts.fingerprint(cfg, {}) is None
    model.local = None
    assert parts.fingerprint(cfg, {}) is not None


@pytest.mark.slow
def test_one_shot_searches_are_compared(tmp_path: Path, monkeypatch: Any) -> None:
    config = str(SMALL['config'])
    changes = {k: v for k, v in SMALL.items() if k != 'config'}
    changes['train_cfg__evolution__constraints'] = {'flops': (None, 2e5)}
    clock = [0.0]
    monkeypatch.setattr(seconds, 'time', SimpleNamespace(perf_counter=lambda: clock[0]))
    epoch, generation = OneShotTrainLoop.run_epoch, OneShotTrainLoop._stop_if_asked
    scored: list[Any] = []

    def running(self: Any) -> None:
        clock[0] += 10
        epoch(self)

    def scoring(self: Any) -> None:
        clock[0] += 1
        scored.append(self)
        if len(scored) == 8:
            raise KeyboardInterrupt
        generation(self)

    monkeypatch.setattr(OneShotTrainLoop, 'run_epoch', running)
    monkeypatch.setattr(OneShotTrainLoop, '_stop_if_asked', scoring)
    assert command(tmp_path, configs=(config,), **changes) == 130
    assert command(tmp_path, configs=(config,), **changes) == 0
    (row,) = told(tmp_path)
    # Two epochs and 18 paths; the two that were scored in vain do not count.
    assert row['search_seconds'] == 38
    assert row['limits'] == 'flops <= 200,000'
    state = json.loads((tmp_path / 'spos/digits/seed_0/search/evolution.json').read_text())
    assert all(entry['costs']['flops'] <= 2e5 for entry in state['evaluated'])
    assert (
        'random networks are held to flops <= 200,000' in (tmp_path / 'compare.md').read_text()
    )


def test_a_mutator_that_draws_does_so_by_the_seed_of_the_run() -> None:
    cfg = load_config(CONFIGS / 'random' / 'nasbench201_digits.py')
    changed = runs.with_seed(cfg, 5)
    assert changed.model.mutator.seed == changed.randomness.seed == 5
    assert cfg.model.mutator.seed == cfg.randomness.seed == 0
    assert 'seed' not in runs.with_seed(load_config(NB201), 5).model.mutator


def test_parts_of_another_config_are_refused(whole: Path, tmp_path: Path, capsys: Any) -> None:
    work_dir = shutil.copytree(whole, tmp_path / 'run')
    before = sorted(work_dir.rglob('*'))
    for changes, expected in [
        ({'train_cfg__max_epochs': 3}, r'train_cfg.max_epochs was 1 and is 3'),
        ({'optim_wrapper__mutator__optimizer__lr': 1.0}, r'optimizer.lr was 0.01 and is 1.0'),
        ({'retrain__train_cfg__max_epochs': 3}, r'found.* train_cfg.max_epochs was 1 and is 3'),
        ({'test_dataloader__batch_size': 7}, r'test_dataloader.batch_size was 256 and is 7'),
    ]:
        assert command(work_dir, **changes) == 2
        line = complaint(capsys)
        assert re.search(expected, line), line
        assert re.search(r'give another --work-dir, or remove \S+ to run it anew', line), line
    assert sorted(work_dir.rglob('*')) == before
    # Where data lies, and how it is loaded, decides on nothing.
    assert command(work_dir, train_dataloader__pin_memory='true') == 0


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'done.json.* is not valid JSON'),
        ('[1]', 'hold what a finished part has told, but it holds list'),
        ('{}', 'Expected `accuracy` of .* to be a number, but got None'),
        ('{"accuracy": "x", "parameters": 1}', "to be a number, but got 'x'"),
    ],
)
def test_damaged_records(
    content: str, message: str, whole: Path, tmp_path: Path, capsys: Any
) -> None:
    work_dir = shutil.copytree(whole, tmp_path / 'run')
    (work_dir / NAME / 'seed_0' / 'found' / 'done.json').write_text(content)
    assert command(work_dir) == 2
    assert re.search(message, complaint(capsys))


def test_configs_that_cannot_be_compared(tmp_path: Path, capsys: Any) -> None:
    without = tmp_path / 'b' / 'same.py'
    without.parent.mkdir()
    cfg = load_config(NB201).to_dict()
    Config({key: value for key, value in cfg.items() if key != 'retrain'}).dump(without)
    (tmp_path / 'run').mkdir()
    arguments = ['--work-dir', str(tmp_path / 'run'), '--seeds', '1']
    for configs, expected in [
        ([str(without)], "config 'b/same' to have a `retrain` section"),
        ([NB201, str(without)], "config 'b/same' to have a `retrain` section"),
        ([NB201, NB201], f'are both called {NAME!r}'),
        ([NB201, '--cfg-options', 'model.mutator=None'], f'{NAME}.* no mutator'),
        ([NB201, '--cfg-options', 'test_dataloader=None'], f'{NAME}: .*`test_dataloader`'),
        ([NB201, '--seeds', '0'], '`num_seeds` to be .* got 0'),
    ]:
        first = [word for word in configs if word.endswith('.py')]
        rest = configs[len(first) :]
        code = cli.main(['compare', *first, *arguments, *rest])
        line = complaint(capsys)
        assert code == 2
        assert re.search(expected, line), line
    assert list((tmp_path / 'run').iterdir()) == []


def test_names_are_those_of_folder_and_file(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / 'mine').mkdir()
    monkeypatch.chdir(tmp_path / 'mine')
    paths = ['a.py', '../other/a.py', 'b.yaml']
    assert config_names(paths) == ['mine/a', 'other/a', 'mine/b']
    with pytest.raises(ConfigError, match=r"'a.py' and '../mine/a.yaml' .* called 'mine/a'"):
        config_names(['a.py', '../mine/a.yaml'])


def test_without_random_networks(tmp_path: Path, capsys: Any) -> None:
    assert command(tmp_path, '--random', '0') == 0
    (row,) = told(tmp_path)
    assert row['random_accuracies'] == []
    out = capsys.readouterr().out
    assert 'difference' not in out.lower()
    assert 'random, ' not in out


def test_it_is_told_after_every_run(whole: Path, tmp_path: Path) -> None:
    work_dir = shutil.copytree(whole, tmp_path / 'run')
    cfg = load_config(NB201, options()[1:])
    heard: list[list[Run]] = []
    result = compare({NAME: cfg}, 1, work_dir, tell=heard.append)
    assert heard == [result]
    assert result[0].random_accuracy == result[0].random_accuracies[0]


def test_a_test_without_accuracy_is_named(whole: Path, tmp_path: Path, capsys: Any) -> None:
    subnet = whole / NAME / 'seed_0' / 'search' / 'subnet.yaml'
    assert tiny_runs.retrain(tmp_path, subnet, test_evaluator='[]') == 2
    assert '`test_evaluator` to tell an "accuracy"' in complaint(capsys)


def test_processes_of_torchrun_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert command(tmp_path / 'run') == 2
    assert 'one process to compare configs, but there are 2 of torchrun' in complaint(capsys)
    assert not (tmp_path / 'run').exists()


def test_a_record_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    part = parts.Part(tmp_path / 'file', load_config(NB201))
    with pytest.raises(ConfigError, match=r"Cannot write '.*done\.json': .*; what is finished"):
        part.finish(seconds=1.0)
