"""The settings of a run in words, from its config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ...version import __version__
from ..catalogue import read_parts
from ..listing import plain

__all__ = ['Group', 'in_words', 'settings_of']

_MOST = 400
_COSTS = {
    'params': 'parameters',
    'macs': 'multiply-adds',
    'flops': 'multiply-adds',
    'memory': 'bytes of the largest layer',
    'latency_ms': 'milliseconds',
}


class Group(NamedTuple):
    """Settings that belong together.

    Attributes:
        title: What they are about.
        rows: Name and value of each.
    """

    title: str
    rows: list[tuple[str, str]]


def in_words(value: Any) -> str:
    """Return a value of a config as a person writes it.

    >>> in_words({'type': 'SGD', 'lr': 0.025, 'betas': [0.5, 0.999], 'nesterov': True})
    'SGD, lr 0.025, betas (0.5, 0.999), nesterov'
    >>> in_words([{'type': 'Normalize'}, {'type': 'RandomCrop', 'padding': 1}])
    'Normalize; RandomCrop, padding 1'
    """
    if isinstance(value, Mapping):
        parts = [str(value['type'])] if 'type' in value else []
        parts += [_part(str(key), entry) for key, entry in value.items() if key != 'type']
        return ', '.join(part for part in parts if part) or 'as by default'
    if isinstance(value, (list, tuple)):
        nested = any(isinstance(entry, (Mapping, list, tuple)) for entry in value)
        return ('; ' if nested else ', ').join(map(in_words, value)) or 'none'
    if isinstance(value, bool) or value is None:
        return {True: 'yes', False: 'no', None: 'none'}[value]
    return f'{value:g}' if isinstance(value, float) else str(value)


def _part(key: str, value: Any) -> str:
    if value is True:
        return key
    if value is None:
        return ''
    told = in_words(value)
    return f'{key} ({told})' if isinstance(value, (Mapping, list, tuple)) else f'{key} {told}'


def _short(value: Any) -> str:
    told = in_words(value)
    return told if len(told) <= _MOST else f'{told[:_MOST].rstrip()} …'


def settings_of(values: Mapping[str, Any], versions: Mapping[str, str]) -> list[Group]:
    """Return what a config says, group by group; entries that it lacks are left out.

    Args:
        values: What ``config.py`` assigns.
        versions: Of what it ran on, by name.
    """
    groups = [
        Group('Search space', [*_architecture(values)]),
        Group('Algorithm', [*_algorithm(values)]),
        Group('Data', [*_data(values)]),
        Group('Training', [*_training(values)]),
        Group('Run', [*_run(values, versions)]),
    ]
    return [group for group in groups if group.rows]


def _of(values: Any, *path: str) -> Any:
    """Return an entry of nested mappings; an empty mapping where there is none."""
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return {} if values is None else values


def _architecture(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    architecture = _of(values, 'model', 'architecture')
    if not isinstance(architecture, Mapping) or not architecture:
        return
    model, rest = architecture.get('model'), dict(architecture)
    if model is not None:
        yield 'network', _network(model)
        rest.pop('model')
    kind = rest.pop('type', None)
    if kind is not None and model is None:
        yield 'supernet', str(kind)
    for rule in rest.pop('rules', None) or ():
        yield 'rule', _rule(rule)
    options = {key: value for key, value in rest.items() if not isinstance(value, Mapping)}
    if options:
        yield 'options', _short(options)
    for key, value in rest.items():
        if isinstance(value, Mapping):
            yield key, _short(value)


def _network(model: Any) -> str:
    if isinstance(model, (list, tuple)):
        kinds = [str(_of(layer, 'type') or layer).rpartition('.')[2] for layer in model]
        return f'{len(kinds)} layers: {", ".join(kinds)}'[:_MOST]
    return _short(model)


def _rule(rule: Any) -> str:
    if not isinstance(rule, Mapping):
        return _short(rule)
    rest = {key: value for key, value in rule.items() if key != 'match'}
    return f'{in_words(rule.get("match", "all"))}: {_short(rest)}'


def _algorithm(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    model = _of(values, 'model')
    parts = read_parts()
    if model.get('type'):
        yield 'model', str(model['type'])
    mutator = _of(model, 'mutator')
    if isinstance(mutator, Mapping) and mutator:
        name = str(mutator.get('type', ''))
        yield 'mutator', name
        part = parts['mutators'].get(name.rpartition('.')[2])
        if part is not None:
            told = [plain(part.summary), *part.traits.get('paper', '').splitlines()[:1]]
            yield 'method', ' '.join(filter(None, told))
        rest = {k: v for k, v in mutator.items() if k not in ('type', 'extensions') and v}
        if rest:
            yield 'options', _short(rest)
        for extension in mutator.get('extensions') or ():
            if _of(extension, 'type') == 'Budget':
                yield from _budget(extension)
            else:
                yield 'extension', _short(extension)
    for name, bound in _items(_of(values, 'train_cfg', 'evolution', 'constraints')):
        yield 'constraint', f'{_COSTS.get(name, name)} {_short(bound)}'
    known = ('type', 'architecture', 'mutator')
    rest = {key: value for key, value in model.items() if key not in known and value}
    if rest:
        yield 'further', _short(rest)


def _items(value: Any) -> list[tuple[str, Any]]:
    return [*value.items()] if isinstance(value, Mapping) else []


def _budget(extension: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rest = {}
    for name, value in extension.items():
        if name not in _COSTS or isinstance(value, bool) or not isinstance(value, (int, float)):
            rest[name] = value
        elif value <= 1:
            yield 'budget', f'at most {value:.4g} of the {_COSTS[name]} of the original'
        else:
            yield 'budget', f'at most {value:,.10g} {_COSTS[name]}'
    if len(rest) > 1:
        yield 'extension', _short(rest)


def _data(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    loaders = [
        ('weights', _of(values, 'train_dataloader')),
        ('architecture', _of(values, 'train_cfg', 'arch_dataloader')),
        ('validation', _of(values, 'val_dataloader')),
        ('test', _of(values, 'test_dataloader')),
    ]
    if not loaders[1][1]:
        loaders[0] = ('training', loaders[0][1])
    for name, loader in loaders:
        dataset = _of(loader, 'dataset')
        if dataset:
            size = _of(loader, 'batch_size')
            yield name, _short(dataset) + (f'; in batches of {size}' if size else '')


def _training(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    loop = _of(values, 'train_cfg')
    if isinstance(loop, Mapping) and loop:
        rest = {k: v for k, v in loop.items() if k not in ('arch_dataloader', 'evolution')}
        yield 'loop', _short(rest)
        if loop.get('evolution'):
            rest = {k: v for k, v in loop['evolution'].items() if k != 'constraints'}
            yield 'evolution', _short(rest)
    wrapper = _of(values, 'optim_wrapper')
    if 'optimizer' in wrapper:
        yield 'optimizer', _short(_without(wrapper, 'constructor'))
    else:
        names = {'architecture': 'optimizer of weights', 'mutator': 'optimizer of choices'}
        for key, name in names.items():
            if _of(wrapper, key):
                yield name, _short(_without(_of(wrapper, key), 'constructor'))
    if values.get('param_scheduler'):
        yield 'schedules', _short(values['param_scheduler'])


def _without(value: Any, key: str) -> Any:
    """Return a wrapper of an optimizer without a key; the optimizer itself comes first."""
    if not isinstance(value, Mapping):
        return value
    optimizer = value.get('optimizer')
    rest = {k: v for k, v in value.items() if k not in (key, 'optimizer')}
    return {**optimizer, **rest} if isinstance(optimizer, Mapping) else value


def _run(values: Mapping[str, Any], versions: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    seed = _of(values, 'randomness', 'seed')
    yield 'seed', 'not fixed' if seed == {} else str(seed)
    yield from versions.items()
    yield 'this report', f'mmrazor_mutators {__version__}'
