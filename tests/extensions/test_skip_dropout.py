"""Dropout on skip connections: when, where, and how much."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import skip_toys
import torch
import toys
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.extensions import SkipDropout
from mmrazor_mutators.functional import decaying_dropout_rate


def rates(dropout: SkipDropout, max_epochs: int, *epochs: int) -> list[float]:
    came = []
    for epoch in epochs:
        dropout.on_epoch(epoch, max_epochs)
        came.append(dropout.rate)
    return came


def authors_rate(drop_rate: float, epoch: int, epochs: int = 25, alone: int = 10) -> float:
    """The rate of an epoch of a stage, as the authors' search loop has it."""
    if epoch < alone:
        return drop_rate * (epochs - epoch - 1) / epochs
    return drop_rate * math.exp(-(epoch - alone) * 0.2)


def test_the_rate_of_three_stages_is_the_authors() -> None:
    dropout = SkipDropout({0: 0.1, 25: 0.4, 50: 0.7}, warmup=10)
    expected = [authors_rate(rate, e) for rate in (0.1, 0.4, 0.7) for e in range(25)]
    assert rates(dropout, 75, *range(75)) == pytest.approx(expected)
    by_parts = SkipDropout({0: 0.1, 1 / 3: 0.4, 2 / 3: 0.7})
    assert rates(by_parts, 75, *range(75)) == pytest.approx(expected)


def test_the_rate_in_the_first_the_middle_and_the_last_epoch() -> None:
    assert rates(SkipDropout(0.5, warmup=0), 11, 0, 5, 10) == pytest.approx(
        [0.5, 0.5 * math.exp(-1), 0.5 * math.exp(-2)]
    )
    assert rates(SkipDropout(0.5, warmup=1.0), 5, 0, 2, 4) == pytest.approx([0.4, 0.2, 0.0])
    assert rates(SkipDropout(0.5, decay=0.0, warmup=0), 5, 0, 4) == [0.5, 0.5]
    assert rates(SkipDropout({2: 0.5}, warmup=0), 4, 0, 1, 2) == [0.0, 0.0, 0.5]
    assert decaying_dropout_rate(0.7, 10, 25, warmup=10, decay=0.2) == 0.7


def identities(supernet: Any) -> list[Any]:
    ops = [
        supernet.first,
        supernet.second,
        *(edge[0] for edge in supernet.node.choices.values()),
    ]
    return [op.choices['skip_connect'] for op in ops]


def test_elements_of_skip_connections_are_dropped_and_the_others_scaled() -> None:
    supernet, mutator = skip_toys.prepared(SkipDropout(0.6, warmup=0))
    x = torch.ones(500, 4, 5, 5, dtype=torch.float64)
    out = toys.run(identities(supernet)[0], x)
    assert set(out.unique().tolist()) == {0.0, 1 / 0.4}
    share = (out == 0).double().mean().item()
    assert abs(share - 0.6) < 5 * (0.6 * 0.4 / x.numel()) ** 0.5
    assert_close(out, toys.run(F.dropout, x, 0.6))
    mutator.on_epoch(10, 11)
    share = (identities(supernet)[0](x) == 0).double().mean().item()
    rate = 0.6 * math.exp(-2)
    assert abs(share - rate) < 5 * (rate * (1 - rate) / x.numel()) ** 0.5
    assert (x == 1).all()  # Not in place: the input of a skip connection is its output.


def test_where_there_is_dropout_and_where_not() -> None:
    supernet, _ = skip_toys.prepared(SkipDropout(0.5, warmup=0))
    hooked = [m for m in supernet.modules() if m._forward_hooks]
    assert set(map(id, identities(supernet))) <= set(map(id, hooked))
    skips_that_halve = supernet.reduce.choices['skip_connect']
    others = [c for n, c in supernet.first.choices.items() if n != 'skip_connect']
    for module in (skips_that_halve, *others):
        assert not module._forward_hooks  # As in the authors' code.
    x = skip_toys.batch()[0]
    noisy = [supernet(x) for _ in range(2)]
    assert not torch.equal(*noisy)
    supernet.eval()
    assert torch.equal(supernet(x), supernet(x))
    for skip in identities(supernet):
        assert skip(x) is x


def test_a_rate_of_0_changes_nothing_and_draws_nothing() -> None:
    supernet, _ = skip_toys.prepared(SkipDropout(0.0))
    x, state = torch.randn(2, 4, 3, 3), torch.get_rng_state()
    assert identities(supernet)[0](x) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_a_module_that_stands_in_two_places_is_dropped_once() -> None:
    shared = torch.nn.Identity()
    supernet = torch.nn.Sequential(
        *(
            mm.DifferentiableOP(space_id='a', choices={'skip': shared, 'relu': torch.nn.ReLU()})
            for _ in range(2)
        )
    )
    toys.prepared(supernet=supernet, extensions=[SkipDropout(0.5, names=['skip'])])
    assert len(shared._forward_hooks) == 1


def hooks_of(supernet: Any) -> list[tuple[int, int]]:
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in supernet.modules()]


@pytest.mark.parametrize('end', ['release', 'deploy'])
def test_hooks_are_removed_and_others_stay(end: str) -> None:
    supernet = skip_toys.SkipSupernet()
    calls: list[Tensor] = []
    own = identities(supernet)[0]
    own.register_forward_hook(lambda module, args, out: calls.append(out))
    before, text, keys = hooks_of(supernet), str(supernet), list(supernet.state_dict())
    dropout = SkipDropout(0.5, warmup=0)
    mutator = mm.DartsMutator(extensions=[dropout])
    mutator.prepare_from_supernet(supernet)
    assert hooks_of(supernet) != before
    assert list(supernet.state_dict()) == keys
    if end == 'release':
        mutator.release(supernet)
        assert (hooks_of(supernet), str(supernet)) == (before, text)
    else:
        mutator.deploy_subnet(supernet, mutator.random_subnet(0))
        assert not any(
            getattr(hook, '__self__', None) is dropout
            for m in supernet.modules()
            for hook in m._forward_hooks.values()
        )
    own(torch.ones(1))
    assert calls == [torch.ones(1)]


def test_an_exported_network_drops_nothing_and_the_supernet_goes_on() -> None:
    supernet, mutator = skip_toys.prepared(SkipDropout(0.9, warmup=0))
    subnet = mutator.random_subnet(0)
    for choice in subnet.values():
        if 'p0' not in choice['chosen'] and 'p1' not in choice['chosen']:
            choice['chosen'] = ['skip_connect']
    before = hooks_of(supernet)
    expected = toys.run(supernet, skip_toys.batch(2)[0])
    net = mutator.export_subnet(supernet, subnet)
    assert not [m for m in net.modules() if m._forward_hooks]
    assert hooks_of(supernet) == before
    torch.manual_seed(3)
    assert expected.shape == supernet(skip_toys.batch(2)[0]).shape
    twin, its_mutator = copy.deepcopy((supernet, mutator))
    its_mutator.deploy_subnet(twin, subnet)
    x = skip_toys.batch()[0]
    assert_close(net(x), twin(x), rtol=0, atol=0)


def test_a_copy_follows_its_own_epochs() -> None:
    supernet, mutator = skip_toys.prepared(SkipDropout(0.5, warmup=1.0))
    twin, its_mutator = copy.deepcopy((supernet, mutator))
    its_mutator.on_epoch(4, 5)  # The rate is 0 there.
    x = torch.ones(9, 4, 5, 5)
    mutator.on_epoch(0, 5)
    assert identities(twin)[0](x) is x
    assert (identities(supernet)[0](x) == 0).any()
    its_mutator.release(twin)
    assert len(identities(supernet)[0]._forward_hooks) == 1
    assert not identities(twin)[0]._forward_hooks


def test_the_rate_survives_a_checkpoint() -> None:
    _, mutator = skip_toys.prepared(SkipDropout({1: 0.4}, warmup=0))
    mutator.on_epoch(3, 6)
    _, other = skip_toys.prepared(SkipDropout({1: 0.4}, warmup=0))
    other.load_state_dict(mutator.state_dict())
    assert other.extensions[0].rate == mutator.extensions[0].rate == 0.4 * math.exp(-0.4)


def test_errors() -> None:
    for start in (1.0, {0: 0.1, 3: 1.0}):
        with pytest.raises(ConfigError, match=r'`start` to be from 0 to below 1, but got 1\.0'):
            SkipDropout(start)
    with pytest.raises(ConfigError, match=r'`start` .* of at least 0, but got -0\.1'):
        SkipDropout(-0.1)
    with pytest.raises(ConfigError, match=r"`start` .* but got 'much'"):
        SkipDropout('much')
    with pytest.raises(ConfigError, match=r'keys of `start` to be epochs .* but got 1\.5'):
        SkipDropout({1.5: 0.2})
    with pytest.raises(ConfigError, match=r'`decay` .* of at least 0, but got -1'):
        SkipDropout(decay=-1)
    with pytest.raises(ConfigError, match=r'`warmup` to be epochs .* but got 1\.5'):
        SkipDropout(warmup=1.5)
    with pytest.raises(ConfigError, match=r'`warmup` .* of at least 0, but got -2'):
        SkipDropout(warmup=-2)
    for names in ('skip_connect', (), [1], None):
        with pytest.raises(ConfigError, match='`names` to be a list of choice names, but got'):
            SkipDropout(names=names)
    text = r"to hold the name of a choice, but got \('skip_conect',\); did you mean 'skip_co"
    supernet = skip_toys.SkipSupernet()
    with pytest.raises(ConfigError, match=text):
        mm.DartsMutator(extensions=[SkipDropout(names=['skip_conect'])]).prepare_from_supernet(
            supernet
        )
    mm.DartsMutator().prepare_from_supernet(supernet)  # Nothing had been changed.
