"""The command line, run for real: search, retrain, export, show, list."""

from __future__ import annotations

import json
import operator
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from processes import python

import mmrazor_mutators as mm
from mmrazor_mutators import cli
from mmrazor_mutators.datasets import Digits
from mmrazor_mutators.engine.runner import allow_checkpoint_types

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / 'configs' / 'darts' / 'digits.py')
OPTIONS = [
    '--cfg-options',
    'train_cfg.max_epochs=2',
    'train_dataloader.dataset.images_per_class=8',
    'train_cfg.arch_dataloader.dataset.images_per_class=8',
    'model.architecture.num_nodes=2',
    'model.architecture.base_channels=4',
    'retrain.train_cfg.max_epochs=1',
]
WITHOUT_US = """
import sys
sys.modules['mmrazor_mutators'] = sys.modules['mmengine'] = None  # Importing them fails.
import torch
images, expected = torch.load(sys.argv[2])
with torch.no_grad():
    torch.testing.assert_close(torch.export.load(sys.argv[1]).module()(images), expected)
print('equal')
"""


def begun_anew(*words, env, cwd):
    """Run a Python that has imported nothing."""
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=120
    )


def call(*arguments, code=0, cwd='.', program=('-m', 'mmrazor_mutators'), run=python):
    """Run a command to its end, which must not warn, and return both outputs."""
    env = {**os.environ, 'COLUMNS': '100', 'OMP_NUM_THREADS': '1'}
    done = run(*program, *map(str, arguments), env=env, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    assert 'Warning' not in done.stderr
    assert 'Traceback' not in done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope='session')
def searched(tmp_path_factory):
    """A search: its work directory and what it printed."""
    work_dir = tmp_path_factory.mktemp('runs') / 'a search'
    words = ['search', CONFIG, '--work-dir', work_dir, '--seed', 7, *OPTIONS]
    out, err = call(*words, run=begun_anew)
    assert err == ''
    return work_dir, out


@pytest.fixture(scope='session')
def retrained(searched):
    """A retraining of what the search found, beside a random network."""
    found, _ = searched
    work_dir = found.parent / 'retrain'
    subnet = found / 'subnet.yaml'
    arguments = ['--subnet', subnet, '--compare-random', 1, '--work-dir', work_dir]
    out, err = call('retrain', CONFIG, *arguments, *OPTIONS)
    assert err == ''
    return work_dir, out


def model_from(work_dir, checkpoint='last.pth'):
    """Build a model from a work directory alone: its resolved config and its weights."""
    allow_checkpoint_types()
    cfg = Config.fromfile(work_dir / 'config.py')
    if cfg.model.get('retraining'):
        cfg.model.mutable_cfg = str(work_dir / 'subnet.yaml')
    model = mm.build_algorithm(cfg.model)
    model.load_state_dict(torch.load(work_dir / checkpoint, weights_only=True)['state_dict'])
    return model.eval()


def test_images():
    """Every test image as the config shows it to the network, and the labels."""
    dataset = Digits('test', transform=[{'type': 'Normalize'}])
    images, labels = zip(*dataset, strict=True)
    return torch.stack(images), torch.tensor(labels)


test_images.__test__ = False


def test_search_writes_what_its_checkpoint_says(searched):
    work_dir, _ = searched
    model = model_from(work_dir)
    assert mm.load_subnet(work_dir / 'subnet.yaml') == model.mutator.search_subnet()
    names = {path.name for path in work_dir.iterdir()}
    assert {'config.py', 'epoch_1.pth', 'epoch_2.pth', 'last.pth'} <= names
    assert (work_dir / 'last.pth').samefile(work_dir / 'epoch_2.pth')
    (log,) = work_dir.glob('*/*.log')
    assert 'Epoch(train)' in log.read_text()
    assert not [name for name in names if name.startswith('.')]


def test_search_writes_the_resolved_config(searched):
    work_dir, _ = searched
    text = (work_dir / 'config.py').read_text()
    cfg = Config.fromfile(work_dir / 'config.py')
    assert '_base_' not in text
    assert cfg.randomness.seed == 7
    assert cfg.train_cfg.max_epochs == 2
    assert cfg.model.architecture.base_channels == 4
    assert cfg.optim_wrapper.architecture.optimizer.lr == 0.025


def test_search_prints_losses_choices_and_how_to_go_on(searched):
    work_dir, out = searched
    number = r'\d+\.\d{3}'
    line = (
        rf'^search (\d)/2  arch_loss {number}  loss {number}  accuracy [\d.]+%'
        r'(?:  (?:normal|reduce)_n\d_p\d=\w+)*  [\d.]+s$'
    )
    assert re.findall(line, out, re.MULTILINE) == ['1', '2']
    assert max(len(text) for text in out.splitlines() if text.startswith('search')) <= 80
    path, config = f"'{work_dir / 'subnet.yaml'}'", f"'{work_dir / 'config.py'}'"
    joined = re.sub(r' \\\n +', ' ', out).splitlines()
    assert joined[-4:] == [
        f'Found: {path}',
        f'Train it:  mmrazor-mutators retrain {config} --subnet {path}',
        f'Draw it:   mmrazor-mutators show {path} --out cells.png',
        f"Look back: mmrazor-mutators show '{work_dir}' --out '{work_dir}'",
    ]
    subnet = yaml.safe_load((work_dir / 'subnet.yaml').read_text())
    rows = re.findall(r'^ .* (\w+) +0\.\d{3} *$', out, re.MULTILINE)
    chosen = [entry['chosen'][0] for sid, entry in subnet.items() if '_p' in sid]
    assert rows == chosen


def test_retrain_reports_the_accuracy_of_its_checkpoint(searched, retrained):
    work_dir, out = retrained
    results = json.loads((work_dir / 'results.json').read_text())
    images, labels = test_images()
    shown = [('found', results['found'], work_dir)]
    shown += [('random 0', results['random'][0], work_dir / 'random_0')]
    for name, result, folder in shown:
        model = model_from(folder)
        with torch.no_grad():
            right = (model(images).argmax(1) == labels).double().mean()
        assert result['name'] == name
        assert result['accuracy'] == pytest.approx(100 * float(right), abs=1e-9)
        assert result['parameters'] == sum(p.numel() for p in model.parameters())
        row = rf'{name} +│ +{result["accuracy"]:.2f}% │ +{result["parameters"]:,} │'
        assert re.search(row, out), out
    assert results['random_mean'] == results['random'][0]['accuracy']
    assert results['random_std'] == 0
    found = mm.load_subnet(searched[0] / 'subnet.yaml')
    assert mm.load_subnet(work_dir / 'subnet.yaml') == found
    assert mm.load_subnet(work_dir / 'random_0' / 'subnet.yaml') != found
    checkpoint = work_dir / 'last.pth'
    last = re.sub(r' \\\n +', ' ', out).splitlines()[-1]
    assert last.endswith(f'--checkpoint {checkpoint} --out found.pt')


@pytest.mark.parametrize(
    ('source', 'suffix'),
    [
        ('searched', '.pt'),
        ('retrained', '.pt'),
        ('retrained', '.pt2'),
        ('retrained', '.py'),
        pytest.param('searched', '.pt2', marks=pytest.mark.slow),
        pytest.param('searched', '.py', marks=pytest.mark.slow),
    ],
)
def test_export(source, suffix, searched, request, tmp_path, capsys):
    work_dir, _ = request.getfixturevalue(source)
    subnet = searched[0] / 'subnet.yaml'
    out = tmp_path / f'net{suffix}'
    arguments = ['--subnet', subnet, '--checkpoint', work_dir / 'last.pth', '--out', out]
    assert cli.main(['export', CONFIG, *map(str, arguments), *OPTIONS]) == 0
    printed = capsys.readouterr().out
    model = model_from(work_dir)
    net = model.architecture
    if source == 'searched':
        model.mutator.deploy_subnet(net, mm.load_subnet(subnet))
    net.eval()
    images = test_images()[0][:5]
    with torch.no_grad():
        expected = net(images)
    count = sum(p.numel() for p in net.parameters())
    # With the weights that lie beside a source.
    size = sum(file.stat().st_size for file in tmp_path.iterdir()) / 2**20
    assert printed == f'Wrote {out}: {count:,} parameters, {size:.2f} MiB\n'
    if suffix == '.pt':
        exported = torch.load(out, weights_only=False)
        assert not any(isinstance(module, mm.MutableModule) for module in exported.modules())
        assert not exported.training
        with torch.no_grad():
            torch.testing.assert_close(exported(images), expected)
    elif suffix == '.py':
        scope = {'__file__': str(out)}
        exec(out.read_text(), scope)
        with torch.no_grad():
            torch.testing.assert_close(scope['load']()(images), expected)
    elif source == 'retrained':
        torch.save((images, expected), tmp_path / 'expected.pth')
        script = ('-c', WITHOUT_US)
        assert (
            call(out, tmp_path / 'expected.pth', program=script, run=begun_anew)[0] == 'equal\n'
        )


def test_show(searched, tmp_path, capsys):
    path = searched[0] / 'subnet.yaml'
    assert cli.main(['show', str(path)]) == 0
    subnet = mm.load_subnet(path)
    rows = re.findall(r'(\w+) +(0\.\d{3})', capsys.readouterr().out)
    entries = [entry for space_id, entry in subnet.items() if '_p' in space_id]
    assert rows == [(e['chosen'][0], f'{e["chosen_probs"][0]:.3f}') for e in entries]
    pytest.importorskip('matplotlib')
    picture = tmp_path / 'cells.svg'
    assert cli.main(['show', str(path), '--out', str(picture)]) == 0
    assert '<svg' in picture.read_text()


def test_list(capsys):
    assert cli.main(['list', 'mutators', 'Darts*']) == 0
    out = capsys.readouterr().out
    assert 'DartsMutator' in out
    assert 'GDASMutator' not in out


def test_version_of_the_installed_program():
    program = Path(sys.executable).with_name('mmrazor-mutators')
    if not program.exists():
        pytest.skip('the package is not installed')
    assert subprocess.check_output([program, '--version'], text=True) == f'{mm.__version__}\n'


def test_error_is_one_line(tmp_path):
    settings = ['model.mutator.type=DartsMutatr']
    _, err = call('search', CONFIG, *OPTIONS, *settings, code=2, cwd=tmp_path)
    assert err.startswith("error: 'DartsMutatr' is not a registered mutator; did you mean")
    assert err.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['search'], 'error: the following arguments are required: config (see '),
        (['sarch', CONFIG], "error: argument VERB: invalid choice: 'sarch'"),
        (['search', CONFIG, '--bogus'], 'error: unrecognized arguments: --bogus'),
    ],
)
def test_bad_command_is_one_line(arguments, expected, capsys):
    with pytest.raises(SystemExit, match=r'^2$'):
        cli.main(arguments)
    err = capsys.readouterr().err
    assert err.startswith(expected)
    assert err.count('\n') == 1


def test_default_work_dir_is_below_work_dirs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(['search', CONFIG, *OPTIONS, 'train_cfg.max_epochs=1']) == 0
    assert (tmp_path / 'work_dirs' / 'darts' / 'digits' / 'subnet.yaml').is_file()


def test_error_of_the_library_keeps_its_traceback_in_a_file(monkeypatch, capsys):
    # Without a line of anybody's own between the library and the error.
    monkeypatch.setattr('mmrazor_mutators.mutables.load_subnet', operator.itemgetter('x'))
    assert cli.main(['show', 'subnet.yaml']) == 1
    err = capsys.readouterr().err
    path = Path(
        re.fullmatch(
            r'error: TypeError: string ind.*\(this should not happen; .* in (\S+)\)\n', err
        )[1]
    )
    assert 'Traceback' in path.read_text()
    path.unlink()


def test_an_error_in_code_of_the_user_names_its_line(monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError('two\nlines')

    monkeypatch.setattr('mmrazor_mutators.mutables.load_subnet', fail)
    assert cli.main(['show', 'subnet.yaml']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(
        r'^error: RuntimeError: two lines \(.*test_cli\.py:\d+, in fail: raise Run', line
    )
    assert 'should not happen' not in line


def test_show_a_work_directory(searched, tmp_path, capsys):
    work_dir, _ = searched
    assert cli.main(['show', str(work_dir), '--out', str(tmp_path / 'pictures')]) == 0
    out = capsys.readouterr().out
    assert '2 epochs noted, the last is 2' in out
    assert max(map(len, out.partition('Wrote ')[0].splitlines())) <= 80
    names = {path.name for path in (tmp_path / 'pictures').iterdir()}
    assert names == {
        f'{name}.{ending}'
        for name in ('curves', 'heat_maps', 'network')
        for ending in ('png', 'svg')
    }
    assert cli.main(['show', str(tmp_path)]) == 2
    assert 'There is nothing to show in' in capsys.readouterr().err
