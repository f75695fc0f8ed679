"""State dicts hold tensors alone, so that other packages can save them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from torch import Tensor

import mmrazor_mutators as mm
from mmrazor_mutators.mutators.scheduled import unpacked

every = pytest.fixture(toys.mutator_of, params=toys.EVERY_MUTATOR, name='every')


def searched(epoch: int = 3) -> tuple[Any, Any]:
    supernet, mutator = toys.prepared()
    mutator.on_epoch(epoch, 10)
    mutator.drop_choices('widen', ['norm'])
    with torch.no_grad():
        for alpha in mutator.arch_params.values():
            alpha.add_(torch.randn_like(alpha))
    return supernet, mutator


def test_every_state_holds_tensors_alone(every: str) -> None:
    supernet, mutator = toys.prepared(every)
    state = {**supernet.state_dict(), **mutator.state_dict()}
    assert all(isinstance(value, Tensor) for value in state.values())


@pytest.mark.parametrize('name', mm.EXTENSIONS.module_dict)
def test_every_extension_packs_its_state(name: str) -> None:
    cls = mm.EXTENSIONS.get(name)
    if not hasattr(cls, 'get_extra_state'):
        pytest.skip('has none')
    extension = cls.__new__(cls)
    assert type(extension)._save_to_state_dict is mm.Extension._save_to_state_dict


def test_what_is_packed_is_what_was_noted() -> None:
    _, mutator = searched()
    extra = mutator.state_dict()['_extra_state']
    assert extra.dtype == torch.uint8
    assert unpacked(extra) == mutator.get_extra_state()
    assert mutator.get_extra_state()['dropped'] == {'widen': ['norm']}


def test_safetensors_save_and_load_a_mutator(tmp_path: Path) -> None:
    files = pytest.importorskip('safetensors.torch')
    _, mutator = searched()
    path = str(tmp_path / 'mutator.safetensors')
    files.save_file(mutator.state_dict(), path)
    _, again = toys.prepared()
    again.load_state_dict(files.load_file(path))
    assert (again.epoch, again.max_epochs) == (3, 10)
    assert again.kept_choices('widen') == mutator.kept_choices('widen')
    for space_id, alpha in mutator.arch_params.items():
        assert again.arch_params[space_id].equal(alpha)


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning')
def test_accelerate_saves_and_loads_a_mutator(tmp_path: Path) -> None:
    accelerate = pytest.importorskip('accelerate')
    accelerator = accelerate.Accelerator(cpu=True)
    supernet, mutator = searched()
    models = accelerator.prepare(supernet, mutator)
    accelerator.save_state(str(tmp_path))
    expected = copy.deepcopy(mutator.state_dict())
    with torch.no_grad():
        for alpha in models[1].arch_params.values():
            alpha.zero_()
    models[1].on_epoch(9, 10)
    accelerator.load_state(str(tmp_path))
    assert models[1].epoch == 3
    for key, value in models[1].state_dict().items():
        assert value.equal(expected[key]), key


def test_states_of_earlier_versions_load() -> None:
    _, mutator = searched()
    old = {**mutator.state_dict(), '_extra_state': mutator.get_extra_state()}
    _, again = toys.prepared()
    again.load_state_dict(old)
    assert again.epoch == 3
    assert again.kept_choices('widen') == mutator.kept_choices('widen')
    assert isinstance(old['_extra_state'], dict)  # The caller's own is left as it was.


def test_states_without_it_load() -> None:
    _, mutator = searched()
    alone = {k: v for k, v in mutator.state_dict().items() if k != '_extra_state'}
    _, again = toys.prepared()
    again.load_state_dict(alone)
    assert again.epoch == 0
