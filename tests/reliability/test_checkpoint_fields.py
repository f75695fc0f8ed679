"""A checkpoint with one field of another type or shape is refused, or does as well."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
import torch
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators.engine.runner import allow_checkpoint_types
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.search.fields import check_counter, check_fields

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


@pytest.fixture(scope='module')
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that was interrupted after its first epoch."""
    work_dir = tmp_path_factory.mktemp('stopped') / 'run'
    stop = '[{"type":"tiny_runs.StopAfter","epochs":1}]'
    changes = {'train_cfg__max_epochs': 2, 'custom_hooks': stop}
    assert tiny_runs.search(work_dir, **changes) == 130
    return work_dir


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
        copy = tmp_path / str(number)
        shutil.copytree(stopped, copy)
        (copy / 'last.pth').unlink()
        (copy / 'last_checkpoint').write_text(str(copy / 'epoch_1.pth'))
        torch.save(changed(whole, path, new), copy / 'epoch_1.pth')
        assert tiny_runs.search(copy, '--resume', train_cfg__max_epochs=2) == 2
        said = tiny_runs.complaint(capsys)
        assert 'should not happen' not in said


@pytest.mark.parametrize(
    ('given', 'ours', 'what'),
    [
        (torch.zeros(2), torch.zeros(3), r'a tensor of shape \(3,\)'),
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
