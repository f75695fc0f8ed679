"""The family of errors."""

from __future__ import annotations

import copy
import pickle

import pytest

import mmrazor_mutators as mm
from mmrazor_mutators import errors

BUILT_INS = {
    'ConfigError': ValueError,
    'UnknownTypeError': KeyError,
    'SearchSpaceError': ValueError,
    'BindingError': RuntimeError,
    'SubnetError': ValueError,
    'InputError': ValueError,
    'NonFiniteLossError': ArithmeticError,
    'RankLostError': RuntimeError,
    'DataError': OSError,
    'HostError': ImportError,
}


def test_nothing_is_left_out() -> None:
    assert set(errors.__all__) == {'NASError', *BUILT_INS}


@pytest.mark.parametrize(('name', 'built_in'), BUILT_INS.items())
def test_each_is_ours_and_a_built_in(name: str, built_in: type) -> None:
    error = getattr(errors, name)("the 'value'")
    assert isinstance(error, mm.NASError)
    assert isinstance(error, built_in)
    assert str(error) == "the 'value'"
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)


def test_unknown_types_are_config_errors() -> None:
    assert issubclass(errors.UnknownTypeError, errors.ConfigError)


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('skip_conect', "did you mean 'skip_connect'? Known: none, skip_connect"),
        ('xyz', 'Known: none, skip_connect'),
    ],
)
def test_did_you_mean(name: str, expected: str) -> None:
    assert errors.did_you_mean(name, iter(['none', 'skip_connect'])) == expected
    assert errors.did_you_mean(name, []) == 'none are known'
