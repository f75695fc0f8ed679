"""Bad input ends in one readable line, and a resumed run is the same run."""

from __future__ import annotations

import os
import re
import shutil

import pytest
import tiny_runs
import torch
import yaml
from tiny_runs import CONFIGS, DIGITS, NB201, complaint, options, weights_of

from mmrazor_mutators import cli
from mmrazor_mutators.engine.config import load_config, retrain_config


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """A finished search, which no test may change."""
    work_dir = tmp_path_factory.mktemp('found')
    assert tiny_runs.search(work_dir) == 0
    return work_dir


BAD_SETTINGS = {
    'model.type': ('Nope', "'Nope' is not a registered model"),
    'model.mutator.type': ('DartsMutatr', "did you mean 'DartsMutator'"),
    'model.architecture.type': ('Nope', "'Nope' is not a registered architecture"),
    'model.loss.type': ('CrossEntropyLos', "did you mean 'CrossEntropyLoss'"),
    'model.hypergradient': ('Nope', "'Nope' is not a registered hypergradient"),
    'model.mutator.nope': (1, "DartsMutator takes no argument 'nope'"),
    'model.architecture.base_channels': ('abc', "got 'abc'"),
    'model.architecture.num_classes': (5, 'Target [5-9] is out of bounds'),
    'model.architecture.in_channels': (3, r'\(N, 3, H, W\).*got shape \(32, 1, 8, 8\)'),
    'train_dataloader.dataset.type': ('Nope', "'Nope' is not a registered dataset"),
    'train_dataloader.dataset.split': ('x', "Digits has no split 'x'"),
    'train_dataloader.dataset.images_per_class': (9999, 'at most 70.*got 9999'),
    'train_dataloader.sampler.type': ('Nope', 'Nope is not in .* registry'),
    'train_dataloader.batch_size': (0, 'from 1 to .* got 0'),
    'train_cfg.arch_dataloader.dataset.type': ('Nope', "'Nope' is not a registered dataset"),
    'train_cfg.type': ('Nope', "'Nope' is not a registered loop"),
    'train_cfg.nope': (1, "argument 'nope'"),
    'train_cfg.max_epochs': ('x', "'x'"),
    'optim_wrapper': (5, 'got 5'),
    'optim_wrapper.constructor': ('Nope', "'Nope' is not a registered optimizer wrapper"),
    'optim_wrapper.mutator.optimizer.type': (
        'Adan',
        "'Adan' is not a registered optimizer; did you mean 'Adam",
    ),
    'optim_wrapper.mutator.optimizer.lr': (-1, 'Invalid learning rate: -1'),
    'param_scheduler.architecture.0.type': ('Nope', 'Nope is not in .* registry'),
    'default_hooks.checkpoint.type': ('Nope', "'Nope' is not a registered hook"),
    'custom_hooks': ("[{'type':'Nope'}]", "'Nope' is not a registered hook"),
    'randomness.seed': ('x', "seed` to be a whole number .* got 'x'"),
    'model.x.y': (5, "Darts takes no argument 'x'"),
    'model.retraining': ('true', 'retraining=True needs to know the network'),
    'val_cfg': ({}, 'val_dataloader, val_cfg, and val_evaluator'),
}


@pytest.mark.parametrize('key', BAD_SETTINGS)
def test_bad_setting(key, found, tmp_path, capsys):
    value, expected = BAD_SETTINGS[key]
    work_dir = shutil.copytree(found, tmp_path / 'run')
    before = {name: (work_dir / name).read_bytes() for name in ('subnet.yaml', 'last.pth')}
    arguments = ['search', NB201, '--work-dir', str(work_dir)]
    code = cli.main([*arguments, *options(), f'{key}={value}'])
    line = complaint(capsys)
    assert code == 2, line
    assert re.search(expected, line), line
    assert before == {name: (work_dir / name).read_bytes() for name in before}


ARCHITECTURE = (
    "dict(type='NasBench201Supernet', in_channels=1, num_classes=10, base_channels=4, "
    'num_cells=1)'
)
BAD_CONFIGS = {
    'model = dict(': 'is not valid Python: .* line 1',
    'x = 1\n1 / 0': r"cannot be read, line 2 of '\S+config.py': ZeroDivisionError: division",
    "_base_ = ['nope.py']": 'cannot be read: FileNotFoundError.*nope.py',
    'x = 1': 'to have a `model`, but it has .*x',
    f"model = dict(type='Darts', architecture={ARCHITECTURE})": '`train_dataloader`',
    f"_base_ = ['{DIGITS}']\nmodel = dict(mutator=None)": 'but it has no mutator',
}


@pytest.mark.parametrize(('text', 'expected'), BAD_CONFIGS.items())
def test_bad_config_file(text, expected, tmp_path, capsys):
    config = tmp_path / 'config.py'
    config.write_text(text)
    assert cli.main(['search', str(config), '--work-dir', str(tmp_path / 'run')]) == 2
    line = complaint(capsys)
    assert re.search(expected, line), line
    assert not (tmp_path / 'run').exists()


def test_supernet_without_mutables(tmp_path, capsys):
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = ['{NB201}']\n"
        "model = dict(architecture=dict(_delete_=True, type='torch.nn.Flatten'))"
    )
    assert cli.main(['search', str(config), '--work-dir', str(tmp_path / 'run')]) == 2
    assert 'mutable' in complaint(capsys)


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['search', 'nope/config.py'], "There is no config file 'nope/config.py'"),
        (['search', NB201, '--cfg-options', 'nokey'], "key=value, but got 'nokey'"),
        (['search', NB201, '--cfg-options', '=1'], "key=value, but got '=1'"),
        (['search', NB201, '--cfg-options', 'trian_cfg.x=1'], "mean 'train_cfg'"),
        (['search', NB201, '--cfg-options', 'model=5'], 'with a `type`, but got 5'),
        (['retrain', NB201, '--subnet', 'nope.yaml'], "the subnet file 'nope.yaml': No such"),
        (['show', 'nope.yaml'], "the subnet file 'nope.yaml': No such"),
        (['list', 'nope'], "'nope' is not a kind of part"),
    ],
)
def test_bad_arguments(arguments, expected, capsys):
    assert cli.main(arguments) == 2
    assert expected in complaint(capsys)


BAD_SUBNETS = {
    'broken': ('{a: [', 'is not valid YAML'),
    'text': ('hello', 'it holds str'),
    'empty': ('', 'it holds NoneType'),
    'list': ('- a', 'it holds list'),
    'unknown space': ({'zz': {'chosen': ['a']}}, "names a space 'zz'"),
    'unknown choice': ({'n1_p0': {'chosen': ['skip_conect']}}, "did you mean 'skip_connect'"),
    'missing space': ({'n2_p0': None}, "lacks the space 'n2_p0'"),
    'no choice': ({'n1_p0': {'chosen': []}}, 'but it holds []'),
    'two choices': ({'n1_p0': {'chosen': ['none', 'skip_connect']}}, 'at most 1'),
    'no mapping': ({'n1_p0': 5}, 'but it holds 5'),
}


@pytest.mark.parametrize('verb', ['retrain', 'export'])
@pytest.mark.parametrize('name', BAD_SUBNETS)
def test_bad_subnet_file(verb, name, found, tmp_path, capsys):
    change, expected = BAD_SUBNETS[name]
    if not isinstance(change, str):
        subnet = {**yaml.safe_load((found / 'subnet.yaml').read_text()), **change}
        change = yaml.safe_dump({key: entry for key, entry in subnet.items() if entry})
    path = tmp_path / 'subnet.yaml'
    path.write_text(change)
    out = tmp_path / 'out.pt'
    special = {
        'retrain': ['--work-dir', str(tmp_path / 'run')],
        'export': ['--checkpoint', str(found / 'last.pth'), '--out', str(out)],
    }
    code = cli.main([verb, NB201, '--subnet', str(path), *special[verb], *options()])
    assert code == 2
    assert expected in complaint(capsys)
    assert [entry.name for entry in tmp_path.iterdir()] == ['subnet.yaml']


@pytest.mark.parametrize('name', ['fashion_mnist', 'cifar10'])
def test_missing_data(name, tmp_path, capsys):
    config = CONFIGS / 'darts' / f'nasbench201_{name}.py'
    root = str(tmp_path / 'nowhere')
    changes = {'train_dataloader__dataset__root': root}
    assert tiny_runs.search(tmp_path / 'run', config=config, **changes) == 2
    line = complaint(capsys)
    assert root in line
    assert 'give their directory as `root`' in line or 'give its directory as `root`' in line


@pytest.mark.parametrize(
    ('part', 'message'),
    [
        # Weights that explode are seen first by the loss that comes next: the architecture's.
        ('architecture', 'The architecture loss is nan in epoch 0, step 1; no step was taken'),
        ('mutator', 'The training loss is nan in epoch 0, step 1; no step was taken'),
    ],
)
def test_loss_that_is_not_finite(part, message, tmp_path, capsys):
    changes = {f'optim_wrapper__{part}__optimizer__lr': 1e30}
    assert tiny_runs.search(tmp_path, **changes) == 2
    assert message in complaint(capsys)


def test_training_loss_that_is_not_finite(found, tmp_path, capsys):
    changes = {'retrain__optim_wrapper__optimizer__lr': 1e38}
    code = tiny_runs.retrain(
        tmp_path, found / 'subnet.yaml', retrain__train_cfg__max_epochs=3, **changes
    )
    assert code == 2
    assert 'The training loss is nan; no step was taken' in complaint(capsys)


@pytest.mark.parametrize('name', ['file', 'file/below'])
def test_work_dir_that_cannot_be_made(name, tmp_path, capsys):
    (tmp_path / 'file').write_text('mine')
    assert tiny_runs.search(tmp_path / name) == 2
    assert f"the work directory '{tmp_path / name}'" in complaint(capsys)
    assert (tmp_path / 'file').read_text() == 'mine'


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_work_dir_that_is_read_only(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert tiny_runs.search(tmp_path / 'run') == 2
    assert 'Permission denied' in complaint(capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason='the host joins the processes then')
def test_launcher_without_torchrun(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv('RANK', raising=False)
    assert tiny_runs.search(tmp_path, '--launcher', 'pytorch') == 2
    assert 'is for processes that torchrun starts, but' in complaint(capsys)


def test_nothing_to_resume(found, tmp_path, capsys):
    assert tiny_runs.search(tmp_path / 'run', '--resume') == 2
    assert 'There is nothing to resume' in complaint(capsys)
    assert not (tmp_path / 'run').exists()


UNEVEN = {'train_cfg__arch_dataloader__dataset__images_per_class': 13}


def equal(left, right):
    """Whether two states hold the same bits."""
    assert left.keys() == right.keys()
    for key, value in left.items():
        if isinstance(value, torch.Tensor):
            assert value.equal(right[key]), key
        else:
            assert value == right[key], key


@pytest.mark.parametrize(
    ('config', 'changes'),
    [
        ('darts/nasbench201_digits.py', {}),
        ('darts/nasbench201_digits.py', UNEVEN),
        ('gdas/digits.py', {'model__architecture__num_nodes': 1, **UNEVEN}),
    ],
    ids=['darts', 'uneven loaders', 'gdas'],
)
def test_resumed_search_is_the_same_search(config, changes, tmp_path):
    kwargs = {'config': CONFIGS / config, 'train_cfg__max_epochs': 2, **changes}
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    assert tiny_runs.search(whole, **kwargs) == 0
    stop = '[{"type":"tiny_runs.StopAfter","epochs":1}]'
    assert tiny_runs.search(cut, custom_hooks=stop, **kwargs) == 130
    assert not (cut / 'epoch_2.pth').exists()
    assert tiny_runs.search(cut, '--resume', **kwargs) == 0
    equal(weights_of(cut), weights_of(whole))
    assert (cut / 'subnet.yaml').read_text() == (whole / 'subnet.yaml').read_text()
    first, last = weights_of(cut, 'epoch_1.pth'), weights_of(cut)
    alphas = [key for key in last if key.startswith('mutator.arch_params')]
    assert all(not first[key].equal(last[key]) for key in alphas)


def test_interrupted_run_says_how_to_go_on(tmp_path, capsys):
    stop = '[{"type":"tiny_runs.StopAfter","epochs":1}]'
    changes = {'train_cfg__max_epochs': 2, 'custom_hooks': stop}
    assert tiny_runs.search(tmp_path / 'run', **changes) == 130
    err = capsys.readouterr().err
    assert 'Go on with: mmrazor-mutators search --resume ' in err
    assert err.count('\n') == 1
    # What is resumed from is what was written last, under either name.
    equal(weights_of(tmp_path / 'run'), weights_of(tmp_path / 'run', 'epoch_1.pth'))


def test_last_checkpoint_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, 'Operation not supported')

    monkeypatch.setattr(os, 'link', refuse)
    assert tiny_runs.search(tmp_path / 'run') == 0
    last, first = tmp_path / 'run' / 'last.pth', tmp_path / 'run' / 'epoch_1.pth'
    assert last.read_bytes() == first.read_bytes()
    assert not last.samefile(first)


def test_comparison_that_was_stopped_goes_on_with_the_networks_that_are_left(found, tmp_path):
    subnet, cut, whole = found / 'subnet.yaml', tmp_path / 'cut', tmp_path / 'whole'
    assert tiny_runs.retrain(cut, subnet) == 0
    assert tiny_runs.retrain(cut, subnet, '--resume', '--compare-random', '1') == 0
    assert tiny_runs.retrain(whole, subnet, '--compare-random', '1') == 0
    assert (cut / 'results.json').read_text() == (whole / 'results.json').read_text()


def test_resuming_prints_nothing_of_the_host(found, tmp_path, capsys):
    work_dir = shutil.copytree(found, tmp_path / 'run')
    assert tiny_runs.search(work_dir, '--resume') == 0
    assert 'Loads checkpoint' not in capsys.readouterr().out


def test_data_root_is_that_of_every_data_set(tmp_path):
    root = str(tmp_path)
    cfg = retrain_config(
        load_config(CONFIGS / 'darts' / 'fashion_mnist.py', [f'data_root={root}'])
    )
    assert cfg.train_dataloader.dataset.root == root
    assert cfg.test_dataloader.dataset.root == root
    cfg = load_config(
        CONFIGS / 'darts' / 'cifar10.py',
        [f'data_root={root}', 'test_dataloader.dataset.root=elsewhere'],
    )
    assert cfg.train_cfg.arch_dataloader.dataset.root == root
    assert cfg.test_dataloader.dataset.root == 'elsewhere'


def test_resumed_retraining_is_the_same_retraining(found, tmp_path):
    subnet = found / 'subnet.yaml'
    kwargs = {'retrain__train_cfg__max_epochs': 2}
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    assert tiny_runs.retrain(whole, subnet, **kwargs) == 0
    stop = '[{"type":"tiny_runs.StopAfter","epochs":1}]'
    assert tiny_runs.retrain(cut, subnet, custom_hooks=stop, **kwargs) == 130
    assert tiny_runs.retrain(cut, subnet, '--resume', **kwargs) == 0
    equal(weights_of(cut), weights_of(whole))
    assert (cut / 'results.json').read_text() == (whole / 'results.json').read_text()
