"""What export and resume refuse to read or write."""

from __future__ import annotations

import os
import pathlib
import shutil

import pytest
import tiny_runs
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from tiny_runs import NB201, complaint, options

from mmrazor_mutators import cli
from mmrazor_mutators.mutables import load_subnet


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """A finished search."""
    work_dir = tmp_path_factory.mktemp('found')
    assert tiny_runs.search(work_dir) == 0
    return work_dir


def export(found, out, *arguments, checkpoint=None, **changes):
    subnet, checkpoint = found / 'subnet.yaml', checkpoint or found / 'last.pth'
    paths = ['--subnet', subnet, '--checkpoint', checkpoint, '--out', out]
    words = ['export', NB201, *paths, *arguments, *options(**changes)]
    return cli.main([str(word) for word in words])


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('missing.pth', None, 'There is no checkpoint'),
        ('junk.pth', b'junk', "junk.pth' cannot be read: "),
        ('list.pth', [1, 2], 'holds no weights of a model'),
        ('function.pth', {'state_dict': print}, 'Unsupported global: GLOBAL print'),
        ('other.pth', {'architecture.x': torch.ones(1)}, 'does not fit the network'),
    ],
)
def test_checkpoint_that_does_not_do(name, content, message, found, tmp_path, capsys):
    path, out = tmp_path / name, tmp_path / 'net.pt'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    out.write_text('mine')
    assert export(found, out, checkpoint=path) == 2
    assert message in complaint(capsys)
    assert out.read_text() == 'mine'


@pytest.mark.parametrize(
    ('name', 'message'),
    [('net.onx', "Cannot export to 'net.onx'"), ('file/net.pt', "file/net.pt': File exists")],
)
def test_file_that_cannot_be_written(name, message, found, tmp_path, capsys):
    (tmp_path / 'file').write_text('mine')
    assert export(found, tmp_path / name) == 2
    assert message in complaint(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_config_of_another_network(found, tmp_path, capsys):
    assert export(found, tmp_path / 'net.pt', model__architecture__base_channels=8) == 2
    assert 'size mismatch' in complaint(capsys)


def test_input_shape_stands_in_for_the_data(found, tmp_path):
    arguments = ['--input-shape', '1', '12', '12']
    out = tmp_path / 'deep' / 'net.pth'
    assert export(found, out, *arguments, test_dataloader__dataset__type='Nope') == 0
    net = torch.load(out, weights_only=False)
    # One operation on each edge of the cell, and the weights of the search.
    weights = tiny_runs.weights_of(found)
    state = net.state_dict()
    first = next(key for key in state if key.endswith('weight'))
    assert state[first].equal(weights[f'architecture.{first}'])
    assert len(load_subnet(found / 'subnet.yaml')) == 6
    assert sum(v.numel() for v in state.values()) < sum(
        v.numel() for v in weights.values() if isinstance(v, torch.Tensor)
    )


@pytest.mark.parametrize('shape', [('3', '8', '8'), ('1', '0', '8')])
def test_input_shape_that_does_not_fit(shape, found, tmp_path, capsys):
    assert export(found, tmp_path / 'net.pt', '--input-shape', *shape) == 2
    assert 'Expected images of shape' in complaint(capsys)


class Attribute:
    """Loads as an attribute, for which a pickle calls ``getattr``."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return getattr, self.arguments


class TestCheckpointToResumeFrom:
    def resume(self, found, tmp_path, spoil, option='--resume', **changes):
        work_dir = shutil.copytree(found, tmp_path / 'run')
        pointer = work_dir / 'last_checkpoint'
        pointer.write_text(str(work_dir / 'epoch_1.pth'))
        (work_dir / 'last.pth').unlink()  # The same file by another name.
        spoil(work_dir / 'epoch_1.pth')
        return tiny_runs.search(work_dir, option, train_cfg__max_epochs=2, **changes)

    @pytest.mark.parametrize(
        'intruder',
        [pathlib.PurePosixPath('/x'), os.system, Attribute(HistoryBuffer, '__init__')],
        ids=['path', 'function', 'attribute'],
    )
    def test_with_something_else_in_it(self, intruder, found, tmp_path, capsys):
        def spoil(path):
            torch.save({**torch.load(path, weights_only=True), 'intruder': intruder}, path)

        assert self.resume(found, tmp_path, spoil) == 2
        assert 'can be gone on from: epoch_1.pth: UnpicklingError' in complaint(capsys)

    def test_that_is_no_checkpoint(self, found, tmp_path, capsys):
        assert self.resume(found, tmp_path, lambda path: path.write_bytes(b'junk')) == 2
        assert 'epoch_1.pth: it is damaged or cut off; start without' in complaint(capsys)

    def test_that_is_gone(self, found, tmp_path, capsys):
        assert self.resume(found, tmp_path, lambda path: path.unlink()) == 2
        assert 'can be gone on from: epoch_1.pth is gone; start without --resume' in complaint(
            capsys
        )

    def test_of_another_network(self, found, tmp_path, capsys):
        changes = {'model__architecture__base_channels': 8}
        assert self.resume(found, tmp_path, lambda path: None, **changes) == 2
        assert 'base_channels was 4 and is 8' in complaint(capsys)
        shutil.rmtree(tmp_path / 'run')
        option = '--resume-changed'
        assert self.resume(found, tmp_path, lambda path: None, option, **changes) == 2
        assert 'to be a tensor of shape (8, 1, 3, 3)' in complaint(capsys)
