"""A checkpoint with one field of another type or shape is refused, or does as well."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators.engine.runner import allow_checkpoint_types
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.search.fields import check_counter, check_fields, check_optimizer_fields

WRONG: tuple[Any, ...] = ('x', None, {'a': 1}, torch.zeros(2, 7), -3)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every entry, that of the whole first."""
    yield path
    items: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, (list, tuple)):
        items = enumerate(value)
    for key, entry in items:
        yield from leaves(entry, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    key, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {**value, key: changed(value[key], rest, new)}
    entries = [*value]
    entries[key] = changed(value[key], rest, new)
    return type(value)(entries)


def searched(mutator: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    supernet = mm.build_architecture(
        {
            'type': 'NasBench201Supernet',
            'in_channels': 1,
            'num_classes': 3,
            'base_channels': 4,
            'num_cells': 1,
        }
    )
    built = mm.build_mutator(mutator)
    built.prepare_from_supernet(supernet)
    search = mm.BilevelSearch(
        supernet,
        built,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), 0.1, momentum=0.9),
        torch.optim.Adam(built.parameters(), 0.1),
    )
    batch = torch.randn(4, 1, 8, 8), torch.randint(3, (4,))
    search.step(batch, batch)
    return search, batch


@pytest.mark.parametrize('name', ['DartsMutator', 'PCDartsMutator'])
def test_states_of_searches(name: str) -> None:
    search, batch = searched({'type': name})
    state = search.state_dict()
    refused, seen = 0, set()
    for path in leaves(state):
        if path[:1] in (('supernet',), ('mutator',)) and len(path) > 2:
            continue
        kind = tuple('#' if isinstance(key, int) else key for key in path)
        if path[:1] == ('supernet',) and len(path) > 1:
            kind = ('supernet', str(path[1]).rpartition('.')[2])
        if kind in seen:
            continue
        seen.add(kind)
        for new in WRONG:
            try:
                search.load_state_dict(changed(state, path, new))
                search.step(batch, batch)
            except mm.NASError:
                refused += 1
    assert refused > 100
    search.load_state_dict(state)


FIELDS = (
    ('meta',),
    ('meta', 'epoch'),
    ('meta', 'iter'),
    ('state_dict',),
    ('optimizer',),
    ('optimizer', 'architecture'),
    ('optimizer', 'architecture', 'state'),
    ('optimizer', 'architecture', 'state', 0),
    ('optimizer', 'architecture', 'state', 0, 'momentum_buffer'),
    ('optimizer', 'architecture', 'param_groups'),
    ('optimizer', 'architecture', 'param_groups', 0, 'lr'),
    ('optimizer', 'mutator', 'state', 0, 'step'),
    ('optimizer', 'mutator', 'param_groups', 0, 'betas'),
    ('param_schedulers',),
    ('param_schedulers', 'architecture'),
    ('param_schedulers', 'architecture', 0, 'last_step'),
    ('message_hub',),
    ('message_hub', 'log_scalars'),
    ('message_hub', 'resumed_keys'),
)


@pytest.mark.parametrize('path', FIELDS, ids=lambda path: '.'.join(map(str, path)))
def test_checkpoints_of_runs(
    stopped: Path, tmp_path: Path, path: tuple[Any, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    allow_checkpoint_types()
    whole = torch.load(stopped / 'epoch_1.pth', weights_only=True)
    assert path in list(leaves(whole))
    for number, new in enumerate(('x', torch.zeros(2, 7))):
        work_dir = tmp_path / str(number)
        shutil.copytree(stopped, work_dir)
        (work_dir / 'last.pth').unlink()
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
        torch.save(changed(whole, path, new), work_dir / 'epoch_1.pth')
        assert tiny_runs.search(work_dir, '--resume', train_cfg__max_epochs=2) == 2
        said = tiny_runs.complaint(capsys)
        assert 'should not happen' not in said


@pytest.mark.parametrize(
    ('given', 'ours', 'what'),
    [
        (torch.zeros(2), torch.zeros(3), r'a tensor of shape \(3,\)'),
        (torch.zeros(3).to_sparse(), torch.zeros(3), 'but got .*sparse'),
        (torch.zeros(3, dtype=torch.int64), torch.zeros(3), 'float32, but got .*int64'),
        ([1], [1, 2], '2 values'),
        ({'a': 'x'}, {'a': 1}, '`it.a` .* a number'),
        (True, 1, 'a number, but got True'),
        (float('inf'), 1, 'a number, but got inf'),
        (3, None, 'True, False or None, but got 3'),
        (3, 'name', 'a str, but got 3'),
    ],
)
def test_fields_of_another_kind(given: Any, ours: Any, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        check_fields('it', given, ours)
    check_fields('it', ours, ours)


@pytest.mark.parametrize('value', [-1, True, 1.0, '1', None])
def test_counters(value: Any) -> None:
    with pytest.raises(ConfigError, match=r'`epoch` .* at least 0, but got'):
        check_counter('epoch', value)


def history(**attributes: Any) -> Any:
    buffer = HistoryBuffer([1.0], [1])
    vars(buffer).update(attributes)
    return buffer


@pytest.mark.parametrize(
    ('path', 'new', 'message'),
    [
        (('state_dict', 3), torch.zeros(1), 'weights of the saved state to have names'),
        (('message_hub', 'log_scalars', 'x'), history(_log_history={}), '`message_hub.log_sca'),
        (
            ('message_hub', 'log_scalars', 'x'),
            history(max_length=None),
            'many numbers as count',
        ),
        (('message_hub', 'log_scalars', 'x'), history(_count_history=3), 'as many numbers'),
        (('message_hub', 'log_scalars', 3), HistoryBuffer([1.0], [1]), 'a str, but got 3'),
        (('message_hub', 'resumed_keys', 'train/loss'), None, 'True or False, but got None'),
    ],
)
def test_fields_that_are_in_none_of_ours(
    stopped: Path, tmp_path: Path, path: Any, new: Any, message: str, capsys: Any
) -> None:
    allow_checkpoint_types()
    content = torch.load(stopped / 'epoch_1.pth', weights_only=True)
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = new
    work_dir = tmp_path / 'run'
    shutil.copytree(stopped, work_dir)
    for other in work_dir.glob('*.pth'):
        other.unlink()
    torch.save(content, work_dir / 'epoch_1.pth')
    assert tiny_runs.search(work_dir, '--resume', train_cfg__max_epochs=2) == 2
    assert message in tiny_runs.complaint(capsys)


@pytest.mark.parametrize('kind', [torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad])
def test_what_an_optimizer_keeps_of_a_parameter(kind: Any) -> None:
    params = [torch.zeros(3, requires_grad=True) for _ in range(2)]
    optimizer = kind(params, lr=0.1)
    params[0].grad = torch.ones(3)
    optimizer.step()
    state = optimizer.state_dict()
    check_optimizer_fields('it', optimizer, state)
    for key in [*state['state'][0]]:
        broken = copy.deepcopy(state)
        broken['state'][0][f'{key}_x'] = broken['state'][0].pop(key)
        with pytest.raises(ConfigError, match=f'`it.state.0` .* to have {key}, but it has'):
            check_optimizer_fields('it', optimizer, broken)


def test_options_that_a_state_lacks() -> None:
    """Those that PyTorch fills in were none in states of its earlier versions."""
    optimizer = torch.optim.SGD([torch.zeros(3, requires_grad=True)], lr=0.1, momentum=0.9)
    for key in optimizer.defaults:
        state = optimizer.state_dict()
        del state['param_groups'][0][key]
        if key in ('maximize', 'foreach', 'differentiable', 'nesterov', 'fused'):
            check_optimizer_fields('it', optimizer, state)
        else:
            with pytest.raises(ConfigError, match=rf'param_groups\[0\]` to have `{key}`'):
                check_optimizer_fields('it', optimizer, state)
