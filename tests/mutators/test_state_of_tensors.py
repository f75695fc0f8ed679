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
from mmrazor_mutators.errors import InputError
from mmrazor_mutators.mutators.tensor_state import packed, unpacked

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


def test_a_state_that_was_converted_loads() -> None:
    _, mutator = searched()
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        _, again = toys.prepared()
        again.load_state_dict(
            {key: value.to(dtype) for key, value in mutator.state_dict().items()}
        )
        assert again.epoch == 3
        assert again.kept_choices('widen') == mutator.kept_choices('widen')


def truncated(extra: Tensor) -> Tensor:
    return extra[: len(extra) // 2]


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (truncated, r'_extra_state` .* got a tensor of \d+ numbers that cannot be read'),
        (
            lambda extra: extra + 1,
            r'_extra_state` .* cannot be read .*load the parameters alone',
        ),
        (lambda extra: extra[:0], 'a tensor of 0 numbers that cannot be read'),
        (lambda extra: extra.to('meta'), 'numbers that cannot be read'),
        (
            lambda extra: packed(3),
            "'_extra_state' .* state of a DartsMutator, but got 3, which",
        ),
        (lambda extra: packed({'max_epochs': 3}), "it cannot go on from .*KeyError: 'epoch'"),
        (lambda extra: None, "'_extra_state' .* but got None, which it cannot go on from"),
        (
            lambda extra: {'epoch': 'x', 'max_epochs': 3},
            "last one of max_epochs=3, but got 'x'",
        ),
        (lambda extra: {'epoch': 5, 'max_epochs': 3}, 'last one of max_epochs=3, but got 5'),
        (lambda extra: {'epoch': 0.5, 'max_epochs': 3}, 'max_epochs=3, but got 0.5'),
        (lambda extra: dropping({'widen': 'norm'}), r"was dropped .* says \{'widen': 'norm'\}"),
        (lambda extra: dropping({'widen': ['x']}), r"'widen': .* \['x'\] were dropped, which"),
        (
            lambda extra: dropping({'widen': ['none', 'linear', 'norm', 'deep']}),
            "'widen': .*'deep'] were dropped, which does not fit its choices",
        ),
        (lambda extra: dropping(['widen']), r"was dropped .* says \['widen'\]"),
    ],
)
def test_a_damaged_state_ends_in_our_errors(damage: Any, message: str) -> None:
    _, mutator = searched()
    state = mutator.state_dict()
    with pytest.raises(InputError, match=message):
        mutator.load_state_dict({**state, '_extra_state': damage(state['_extra_state'])})
    mutator.load_state_dict(state)
    assert mutator.epoch == 3


def dropping(names: Any) -> dict[str, Any]:
    return {'epoch': 1, 'max_epochs': 3, 'dropped': names}


def test_the_state_of_an_extension_may_be_damaged_too() -> None:
    _, mutator = toys.prepared(extensions=[{'type': 'OperationFreezing'}])
    key = 'extensions.0._extra_state'
    state = {**mutator.state_dict(), key: packed({'epoch': 0, 'max_epochs': 1})}
    with pytest.raises(InputError, match=f"'{key}' .* OperationFreezing.*KeyError: 'frozen'"):
        mutator.load_state_dict(state)


def test_spaces_of_another_supernet_may_have_been_dropped() -> None:
    _, mutator = toys.prepared()
    mutator.set_extra_state(dropping({'elsewhere': ['x']}))
    assert mutator.kept_choices('widen') == ('none', 'linear', 'norm', 'deep')


def test_states_without_it_load() -> None:
    _, mutator = searched()
    alone = {k: v for k, v in mutator.state_dict().items() if k != '_extra_state'}
    _, again = toys.prepared()
    again.load_state_dict(alone)
    assert again.epoch == 0
