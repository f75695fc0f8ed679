"""Registries and building from configs."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any

import pytest
import toys
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators import builder, host
from mmrazor_mutators.errors import ConfigError, UnknownTypeError

KINDS = {
    'mutable': (mm.MUTABLES, mm.build_mutable, 'DifferentiableOP'),
    'op': (mm.OPS, mm.build_op, 'DartsSepConv'),
    'architecture': (mm.ARCHITECTURES, mm.build_architecture, 'DartsSupernet'),
    'mutator': (mm.MUTATORS, mm.build_mutator, 'DartsMutator'),
    'algorithm': (mm.ALGORITHMS, mm.build_algorithm, 'Darts'),
    'hypergradient': (mm.HYPERGRADIENTS, mm.build_hypergradient, None),
}
kinds = pytest.mark.parametrize('kind', KINDS)
SEP_CONV = {'type': 'DartsSepConv', 'in_channels': 3, 'out_channels': 4, 'kernel_size': 5}


class Frame:
    """Takes anything that its base class takes."""

    def __init__(self, size: int, names: Any = (), **kwargs: Any) -> None:
        self.size, self.names, self.kwargs = size, names, kwargs


class Child(Frame):
    def __init__(self, colour: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.colour = colour
        for value in kwargs.values():
            if isinstance(value, dict):
                value['touched'] = True


class Strict(Frame):
    def __init__(self, colour: str = 'red', *, size: int = 1) -> None:
        super().__init__(size)
        self.colour = colour


class StrictChild(Strict):
    def __init__(self, weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weight = weight


class Abstract(mm.BaseMutator):
    @abstractmethod
    def unwritten(self) -> None: ...


@pytest.fixture
def parts() -> Any:
    with toys.registered(Frame, Child, Strict, StrictChild, Abstract):
        yield mm.MUTATORS


@kinds
def test_each_kind_has_a_lookup_of_its_own(kind: str) -> None:
    registry, _, name = KINDS[kind]
    assert registry.name == kind
    assert registry.module_dict
    if name is None:
        return
    assert registry.get(name) is mm.MODELS.get(name) is getattr(mm, name, registry.get(name))
    for other, (its_registry, build, _) in KINDS.items():
        if other != kind:
            assert name not in its_registry
            message = f"^'{name}' is not a registered {other};.* Known: "
            with pytest.raises(UnknownTypeError, match=message):
                build({'type': name})


def test_models_hold_all_that_stand_in_configs() -> None:
    for kind, (registry, _, _) in KINDS.items():
        if kind != 'hypergradient':
            assert registry.module_dict.items() <= mm.MODELS.module_dict.items()


def test_scoped_names_work_from_both_sides() -> None:
    cfg = {**SEP_CONV, 'type': 'mmrazor_mutators.DartsSepConv'}
    for build in (mm.build_op, mm.MODELS.build, host.root.MODELS.build):
        op = build(dict(cfg))
        assert type(op) is mm.OPS.get('DartsSepConv')
        assert op.out_channels == 4
    for build in (mm.build_mutator, mm.MODELS.build, host.root.MODELS.build):
        assert type(build({'type': 'mmrazor_mutators.DartsMutator'})) is mm.DartsMutator
    for name in (f'{host.root.MODELS.scope}.ReLU', 'ReLU'):
        assert type(mm.MODELS.build({'type': name})) is nn.ReLU
    with pytest.raises(
        UnknownTypeError, match=r"'mmrazor_mutators\.DartsMutater'.*'DartsMutator'"
    ):
        mm.build_mutator({'type': 'mmrazor_mutators.DartsMutater'})


@pytest.mark.parametrize(
    'name',
    [
        'toys.UserMutator',
        'mmrazor_mutators.mutators.GDASMutator',
        'mmrazor_mutators.mutators.darts.DartsMutator',
    ],
)
def test_dotted_paths(name: str) -> None:
    mutator = mm.build_mutator({'type': name, 'ignore_choices': ['a']})
    assert type(mutator).__name__ == name.split('.')[-1]
    assert mutator.ignore_choices == ('a',)


def test_a_class_as_type() -> None:
    assert type(mm.build_mutator({'type': toys.UserMutator})) is toys.UserMutator
    assert (
        type(mm.build_op({'type': nn.Linear, 'in_features': 2, 'out_features': 3})) is nn.Linear
    )
    mapping = {'hole': {'type': mm.DifferentiableOP, 'choices': toys.candidates()}}
    supernet = nn.Sequential(mm.Placeholder('hole', 'a'))
    mm.DartsMutator(placeholder_mapping=mapping).prepare_from_supernet(supernet)
    assert type(supernet[0]) is mm.DifferentiableOP


def test_a_user_mutator_is_found_everywhere() -> None:
    with toys.registered(toys.UserMutator):
        for name in ('UserMutator', 'mmrazor_mutators.UserMutator'):
            assert name in mm.MUTATORS
            assert type(mm.build_mutator({'type': name})) is toys.UserMutator
            assert type(mm.MODELS.build({'type': name})) is toys.UserMutator
    assert 'UserMutator' not in mm.MUTATORS
    assert 'UserMutator' not in mm.MODELS


@kinds
@pytest.mark.parametrize(
    'name', ['copy', 'torch', 'os.path', 'json.nothing', '', '.', 'a.', 'no']
)
def test_unknown_types(kind: str, name: str) -> None:
    registry, build, _ = KINDS[kind]
    with pytest.raises(
        UnknownTypeError, match=f'is not a registered {kind}; .*Known: '
    ) as caught:
        build({'type': name})
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith(repr(name))
    assert all(known in str(caught.value) for known in registry.module_dict)


@pytest.mark.parametrize(
    ('build', 'name', 'meant'),
    [
        (mm.build_mutator, 'DartMutator', 'DartsMutator'),
        (mm.build_mutable, 'DifferentialOP', 'DifferentiableOP'),
        (mm.build_op, 'mmrazor_mutators.DartsSepConf', 'DartsSepConv'),
        (mm.build_hypergradient, 'firstorder', 'first_order'),
    ],
)
def test_did_you_mean(build: Any, name: str, meant: str) -> None:
    with pytest.raises(UnknownTypeError, match=f"^'{name}' .*did you mean '{meant}'"):
        build({'type': name})


@kinds
@pytest.mark.parametrize('cfg', [3, 'DartsMutator', ['DartsMutator'], None])
def test_configs_that_are_no_dict(kind: str, cfg: Any) -> None:
    _, build, _ = KINDS[kind]
    if kind == 'hypergradient' and isinstance(cfg, str):
        pytest.skip('a hypergradient may be named')
    message = rf'config of a {kind} to be a dict .*but got {type(cfg).__name__}: '
    with pytest.raises(ConfigError, match=message):
        build(cfg)


@kinds
def test_configs_without_a_type(kind: str) -> None:
    registry, build, _ = KINDS[kind]
    message = rf"{kind} to have a \"type\", but its keys are \['a', 'b'\]; .*Known: "
    with pytest.raises(ConfigError, match=message) as caught:
        build({'b': 1, 'a': 2})
    assert next(iter(registry.module_dict)) in str(caught.value)


@pytest.mark.parametrize('value', [3, None, [], {'type': 'DartsMutator'}])
def test_a_type_that_is_neither_name_nor_class(value: Any) -> None:
    with pytest.raises(
        ConfigError, match=r'"type" of a mutator to be a name or a class, but got'
    ):
        mm.build_mutator({'type': value})


def test_unknown_arguments(parts: Any) -> None:
    cases = [
        ({'type': 'Strict', 'color': 1}, r"Strict .*'color'; did you mean 'colour'\? .*size$"),
        ({'type': 'StrictChild', 'sise': 2}, "StrictChild .*'sise'; did you mean 'size'"),
        ({'type': 'StrictChild', 'names': 2}, "'names'.*: colour, size, weight$"),
        ({'type': 'Strict', 'names': 1}, "Strict takes no argument 'names'"),
        (
            {'type': 'GDASMutator', 'tau': 1},
            "'tau'.*ignore_choices.*placeholder_mapping.*tau_max",
        ),
    ]
    for cfg, message in cases:
        with pytest.raises(ConfigError, match=message):
            parts.build(cfg)
    assert parts.build({'type': 'Frame', 'size': 1, 'anything': 2}).kwargs == {'anything': 2}


@pytest.mark.parametrize(
    ('build', 'cfg', 'missing'),
    [
        (
            mm.build_op,
            {'type': 'DartsSepConv', 'in_channels': 3, 'kernel_size': 3},
            'out_channels',
        ),
        (mm.build_mutable, {'type': 'DifferentiableOP', 'space_id': 'a'}, 'choices'),
        (mm.build_mutable, {'type': 'GumbelOP', 'choices': {'a': nn.ReLU()}}, 'space_id'),
    ],
)
def test_missing_arguments(build: Any, cfg: Any, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"{cfg['type']} .*'?{missing}'?"):
        build(cfg)


def test_abstract_classes(parts: Any) -> None:
    with pytest.raises(ConfigError, match=r'^Abstract is abstract .* define unwritten$'):
        parts.build({'type': 'Abstract'})
    with pytest.raises(ConfigError, match=r'DifferentiableMutator is abstract.* search_subnet'):
        mm.build_mutator({'type': 'DifferentiableMutator'})


def test_duplicates() -> None:
    class DartsMutator(mm.DartsMutator):
        """Another one of that name."""

    for registry, name in [(mm.MUTATORS, None), (mm.OPS, None), (mm.MUTATORS, 'GDASMutator')]:
        message = f'{name or "DartsMutator"} is already registered .*pass force=True'
        with pytest.raises(ConfigError, match=message):
            registry.register_module(module=DartsMutator, name=name)
    assert mm.MUTATORS.get('DartsMutator') is mm.MODELS.get('DartsMutator') is mm.DartsMutator
    assert 'DartsMutator' not in mm.OPS.module_dict


def test_the_config_is_never_changed(parts: Any) -> None:
    module = nn.Linear(2, 2)
    cfg = {
        'type': 'Child',
        'colour': 'red',
        'size': 3,
        'names': {'a': [{'b': 1}, (2, {'c': 3})], 'module': module},
        '_scope_': 'mmrazor_mutators',
    }
    defaults = {'colour': 'blue', 'extra': {'d': 1}}
    before, defaults_before = copy.deepcopy([cfg, defaults]), list(defaults)
    built = builder.MUTATORS.build(cfg, default_args=defaults)
    assert built.names['touched'] is built.kwargs['extra']['touched'] is True
    built.names['a'][0]['b'] = built.names['a'][1][1]['c'] = 'changed'
    assert (built.colour, built.size) == ('red', 3)
    assert built.names['module'] is module
    assert list(defaults) == defaults_before
    before[0]['names']['module'] = module
    assert [cfg, defaults] == before
