"""Runs with micro-batches and a scaled loss: ended anywhere, they go on bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from runs import assert_same, result_of
from tiny_runs import complaint
from torch.testing import assert_close

from mmrazor_mutators.algorithms import Darts
from mmrazor_mutators.engine.loops import GroupedLoader
from mmrazor_mutators.errors import ConfigError, InputError
from mmrazor_mutators.mutators.tensor_state import unpacked

OPTIONS: dict[str, dict[str, Any]] = {
    'accumulate': {'model__accumulate': 3, 'train_dataloader__batch_size': 8},
    'float16': {
        'model__autocast': 'float16',
        'model__scaler': '{"init_scale":16384.0,"growth_interval":1}',
    },
}
SMALL = {
    'train_cfg__max_epochs': 2,
    'default_hooks__checkpoint__by_epoch': False,
    'default_hooks__checkpoint__interval': 1,
    'default_hooks__checkpoint__max_keep_ckpts': -1,
    'model__architecture__num_cells': 1,
}


@pytest.fixture(
    scope='module', params=['float16', pytest.param('accumulate', marks=pytest.mark.slow)]
)
def whole(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    work_dir = tmp_path_factory.mktemp('whole') / 'run'
    assert tiny_runs.search(work_dir, **{**SMALL, **OPTIONS[request.param]}) == 0
    return request.param, work_dir


def test_it_goes_on_from_each_step(whole: tuple[str, Path], tmp_path: Path) -> None:
    name, done = whole
    expected = result_of(done)
    steps = sorted(done.glob('iter_*.pth'), key=lambda path: path.stat().st_mtime)
    # 80 images in batches of 8, of which 3 make a step and one is left out.
    assert len(steps) == 6
    if name == 'float16':
        state = torch.load(steps[-1], weights_only=True)['state_dict']
        scale = unpacked(state['loss_scale._extra_state'])
        assert scale['scale'] > 16384
    for path in steps[:-1]:
        work_dir = tmp_path / path.stem
        shutil.copytree(done, work_dir)
        for other in work_dir.glob('*.pth'):
            if other.name == 'last.pth' or other.stat().st_mtime > path.stat().st_mtime:
                other.unlink()
        again = tiny_runs.search(work_dir, '--resume', **{**SMALL, **OPTIONS[name]})
        assert again == 0
        assert_same(result_of(work_dir), expected)


def test_another_number_of_parts_is_another_run(
    whole: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, done = whole
    work_dir = tmp_path / 'run'
    shutil.copytree(done, work_dir)
    changed = {**SMALL, **OPTIONS[name], 'model__accumulate': 2}
    assert tiny_runs.search(work_dir, '--resume', **changed) == 2
    assert 'model.accumulate was' in complaint(capsys)


def test_too_few_batches_for_a_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tiny_runs.search(tmp_path / 'run', **SMALL, model__accumulate=4) == 2
    said = complaint(capsys)
    assert '`dataloader` has no batch: expected at least 4, as accumulate=4 says' in said


def model(**options: Any) -> Any:
    torch.manual_seed(0)
    space = {'type': 'NasBench201Supernet', 'in_channels': 1, 'num_classes': 3}
    small = {**space, 'base_channels': 4, 'num_cells': 1}
    return Darts(small, {'type': 'DartsMutator'}, **options)


def optimizers(darts: Any) -> Any:
    weights = torch.optim.SGD(darts.architecture.parameters(), 0.1)
    arch = torch.optim.Adam(darts.mutator.parameters(), 0.1)
    return OptimWrapperDict(architecture=OptimWrapper(weights), mutator=OptimWrapper(arch))


def test_parts_are_worth_their_batch() -> None:
    """In eval mode, as norms see each part by itself."""
    torch.manual_seed(1)
    batches = [(torch.randn(6, 1, 8, 8), torch.randint(3, (6,))) for _ in range(2)]
    moved = []
    for count in (1, 3):
        darts = model(accumulate=count)
        darts.eval()
        pair: Any = batches
        if count > 1:
            pair = [[*zip(*(x.split(2) for x in batch), strict=True)] for batch in batches]
        darts.train_step(tuple(pair), optimizers(darts))
        moved.append(darts.state_dict())
    assert_close(moved[1], moved[0], rtol=1e-4, atol=1e-5)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'`accumulate` .* but got 0'):
        model(accumulate=0)
    darts = model(accumulate=2)
    batch = torch.randn(2, 1, 8, 8), torch.zeros(2, dtype=torch.long)
    with pytest.raises(InputError, match=r'a list of 2 batches .* but got tuple'):
        darts.train_step((batch, batch), optimizers(darts))
    with pytest.raises(InputError, match=r'a list of 2 batches .* but got 3'):
        darts.train_step(([batch] * 3, [batch] * 2), optimizers(darts))
    bare = {key: wrapper.optimizer for key, wrapper in optimizers(darts).items()}
    with pytest.raises(ConfigError, match=r'accumulate=1 with the bare optimizers .* got 2'):
        darts.train_step((batch, batch), bare)


def test_grouped_loaders() -> None:
    loader = torch.utils.data.DataLoader([*range(7)], batch_size=2, drop_last=True)
    groups = GroupedLoader(loader, 2)
    assert len(groups) == 1
    assert [[part.tolist() for part in group] for group in groups] == [[[0, 1], [2, 3]]]
    assert groups.batch_size == 2
    assert groups.dataset == [*range(7)]
