"""The auxiliary skip connection: its value, its schedule, its coming and its going."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import skip_toys
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.extensions import AuxiliarySkip, SkipDropout


@pytest.fixture
def x() -> Tensor:
    return skip_toys.batch()[0]


def strengths(skip: AuxiliarySkip, max_epochs: int, *epochs: int) -> list[float]:
    came = []
    for epoch in epochs:
        skip.on_epoch(epoch, max_epochs)
        came.append(skip.strength)
    return came


def test_the_strength_is_that_of_the_authors_code() -> None:
    # base * (T_max - epoch) / (T_max - T_start) with T_max = 50 epochs and T_start = 0.
    assert strengths(AuxiliarySkip(), 50, 0, 25, 49) == pytest.approx([1.0, 0.5, 1 / 50])
    assert strengths(AuxiliarySkip(2.0), 4, 0, 1, 2, 3) == [2.0, 1.5, 1.0, 0.5]
    assert strengths(AuxiliarySkip(until=2), 5, 0, 1, 2, 4) == [1.0, 0.5, 0.0, 0.0]
    assert strengths(AuxiliarySkip(until=0.5), 8, 0, 2, 4, 7) == [1.0, 0.5, 0.0, 0.0]
    assert strengths(AuxiliarySkip(0.0), 5, 0, 4) == [0.0, 0.0]


def ops_of(supernet: Any) -> list[Any]:
    return [m for m in supernet.modules() if isinstance(m, mm.DifferentiableOP)]


def naive_op(op: Any, x: Tensor, weights: Tensor, strength: float) -> Tensor:
    mixed = sum(w * c(x) for w, c in zip(weights, op.choices.values(), strict=True))
    return mixed + strength * op.auxiliary_skip(x)


def naive_forward(supernet: Any, mutator: Any, x: Tensor, strength: float) -> Tensor:
    def run(op: Any, x: Tensor) -> Tensor:
        return naive_op(op, x, mutator.arch_params[op.space_id].softmax(-1), strength)

    a = supernet.stem(x).tanh()
    b = run(supernet.first, a)
    c = run(supernet.second, b)
    edges = supernet.node.choices.values()
    node = sum(run(edge[0], s) for edge, s in zip(edges, (a, b, c), strict=True))
    return supernet.head(run(supernet.reduce, node).mean((2, 3)))


@pytest.mark.parametrize('epoch', [0, 3, 4, 7])
def test_forward_and_gradients_are_those_of_the_formula(epoch: int, x: Tensor) -> None:
    supernet, mutator = skip_toys.prepared(AuxiliarySkip(0.8, until=4))
    mutator.on_epoch(epoch, 8)
    strength = 0.8 * max(1 - epoch / 4, 0)
    out, expected = supernet(x), naive_forward(supernet, mutator, x, strength)
    assert_close(out, expected)
    parameters = toys.logits_and_weights(supernet, mutator)
    for mine, naive in zip(
        torch.autograd.grad(out.square().sum(), parameters, allow_unused=True),
        torch.autograd.grad(expected.square().sum(), parameters, allow_unused=True),
        strict=True,
    ):
        if strength or mine is not None:
            assert_close(mine, naive)
        else:
            assert naive is None or not naive.any()


def test_it_stands_beside_every_op_and_has_weights_where_it_halves(x: Tensor) -> None:
    supernet, _ = skip_toys.prepared(AuxiliarySkip())
    assert len(ops_of(supernet)) == 6
    for op in ops_of(supernet):
        skip, own = op.auxiliary_skip, op.choices['skip_connect']
        assert type(skip) is type(own)
        assert skip is not own
        assert bool(list(skip.parameters())) == (op is supernet.reduce)
    ours = dict(supernet.reduce.auxiliary_skip.named_parameters())
    for name, weight in supernet.reduce.choices['skip_connect'].named_parameters():
        assert weight.shape == ours[name].shape
        if weight.dim() > 1:
            assert not torch.equal(weight, ours[name])  # Drawn anew.
    assert set(map(id, ours.values())) <= set(map(id, supernet.parameters()))
    assert supernet.first.auxiliary_skip(x) is x


def test_statistics_of_the_copy_begin_anew() -> None:
    supernet = skip_toys.SkipSupernet()
    supernet.reduce.choices['skip_connect'].bn.running_mean.fill_(7.0)
    mm.DartsMutator(extensions=[AuxiliarySkip()]).prepare_from_supernet(supernet)
    assert not supernet.reduce.auxiliary_skip.bn.running_mean.any()
    assert (supernet.reduce.choices['skip_connect'].bn.running_mean == 7).all()


def test_it_is_not_run_where_the_strength_is_0(x: Tensor) -> None:
    supernet, mutator = skip_toys.prepared(AuxiliarySkip(until=1))
    calls = []
    for op in ops_of(supernet):
        op.auxiliary_skip.register_forward_hook(lambda *_: calls.append(1))
    supernet(x)
    assert len(calls) == 6
    mutator.on_epoch(1, 2)
    out = supernet(x)
    assert len(calls) == 6
    plain, its_mutator = copy.deepcopy((supernet, mutator))
    its_mutator.release(plain)
    bare = mm.DartsMutator()
    bare.prepare_from_supernet(plain)
    bare.double().load_state_dict(mutator.state_dict(), strict=False)
    assert_close(plain(x), out, rtol=0, atol=0)


def test_the_weight_optimizer_trains_it() -> None:
    supernet, mutator = skip_toys.prepared(AuxiliarySkip(until=2))
    search = skip_toys.search_over(supernet, mutator)
    weights = list(supernet.reduce.auxiliary_skip.parameters())
    held = {id(p) for p in search.weights}
    assert weights
    assert {id(p) for p in weights} <= held
    for epoch, trained in ((0, True), (1, True), (2, False)):
        search.on_epoch(epoch, 4)
        before = [w.detach().clone() for w in weights]
        search.step(skip_toys.batch(), skip_toys.batch())
        assert any(w.grad is not None for w in weights) == trained
        moved = [not torch.equal(b, w) for b, w in zip(before, weights, strict=True)]
        # Momentum moves nothing that has no gradient.
        assert any(moved) == trained
    assert not any(p is w for p in mutator.arch_params.values() for w in weights)


def hooks_of(supernet: Any) -> list[tuple[int, int]]:
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in supernet.modules()]


def snapshot(supernet: Any) -> tuple[Any, ...]:
    values = {k: v.clone() for k, v in supernet.state_dict().items()}
    return str(supernet), list(values), hooks_of(supernet), values


def assert_same(first: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert first[:3] == other[:3]
    assert_close(first[3], other[3], rtol=0, atol=0)


def test_release_restores_the_supernet_and_prepare_adds_it_again(x: Tensor) -> None:
    supernet = skip_toys.SkipSupernet().double().eval()
    before = snapshot(supernet)
    mutator = mm.DartsMutator(extensions=[AuxiliarySkip()])
    for _ in range(2):
        mutator.prepare_from_supernet(supernet)
        assert 'reduce.auxiliary_skip.conv1.weight' in supernet.state_dict()
        assert_close(supernet(x), naive_forward(supernet, mutator, x, 1.0))
        mutator.release(supernet)
        assert_same(snapshot(supernet), before)


def test_it_is_in_no_network_that_was_found(x: Tensor) -> None:
    supernet, mutator = skip_toys.prepared(AuxiliarySkip())
    subnet = mutator.random_subnet(2)
    before = snapshot(supernet)
    net = mutator.export_subnet(supernet, subnet)
    assert_same(snapshot(supernet), before)
    twin, its_mutator = copy.deepcopy((supernet, mutator))
    its_mutator.deploy_subnet(twin, subnet)
    for found in (net, twin):
        assert not [name for name, _ in found.named_modules() if 'auxiliary' in name]
        assert not [name for name in found.state_dict() if 'auxiliary' in name]
    assert not [m for m in net.modules() if m._forward_hooks]
    assert_close(net(x), twin(x), rtol=0, atol=0)


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(duplicate: Any, x: Tensor) -> None:
    supernet, mutator = skip_toys.prepared(AuxiliarySkip())
    mutator.on_epoch(1, 4)
    supernet(x).sum().backward()
    twin, its_mutator = duplicate((supernet, mutator))
    assert_close(twin(x), supernet(x), rtol=0, atol=0)
    assert twin.reduce.auxiliary_skip is not supernet.reduce.auxiliary_skip
    its_mutator.on_epoch(3, 4)  # Each follows its own epochs.
    assert_close(twin(x), naive_forward(twin, its_mutator, x, 0.25))
    assert_close(supernet(x), naive_forward(supernet, mutator, x, 0.75))
    its_mutator.release(twin)
    assert not hasattr(twin.reduce, 'auxiliary_skip')
    assert_close(supernet(x), naive_forward(supernet, mutator, x, 0.75))


class Recomputed(skip_toys.SkipSupernet):
    """Computes its nodes a second time in the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        def nodes(a: Tensor) -> Tensor:
            b = self.first(a)
            return self.reduce(self.node([a, b, self.second(b)]))

        out = checkpoint(nodes, self.stem(x).tanh(), use_reentrant=False)
        return self.head(out.mean((2, 3)))


@pytest.mark.parametrize('mutator_name', ['DartsMutator', 'GDASMutator'])
def test_recomputed_segments(mutator_name: str, x: Tensor) -> None:
    gradients = []
    for cls in (skip_toys.SkipSupernet, Recomputed):
        torch.manual_seed(0)
        supernet, mutator = toys.prepared(
            mutator_name, cls().eval(), extensions=[AuxiliarySkip()]
        )
        parameters = toys.logits_and_weights(supernet, mutator)
        loss = toys.run(supernet, x).square().sum()
        gradients.append(torch.autograd.grad(loss, parameters, allow_unused=True))
    for plain, mine in zip(*gradients, strict=True):
        assert (mine is None) == (plain is None)
        if mine is not None:
            assert_close(mine, plain)


def test_moving_to_a_dtype_and_to_the_meta_device(x: Tensor) -> None:
    supernet, mutator = skip_toys.prepared(AuxiliarySkip())
    supernet.float(), mutator.float()
    assert supernet(x.float()).dtype == torch.float32
    supernet.to('meta'), mutator.to('meta')
    assert supernet.reduce.auxiliary_skip.conv1.weight.device.type == 'meta'
    assert supernet(x.float().to('meta')).device.type == 'meta'


def test_a_checkpoint_brings_its_weights_and_its_epoch(x: Tensor) -> None:
    search = skip_toys.search_over(*skip_toys.prepared(AuxiliarySkip()))
    search.on_epoch(1, 4)
    search.step(skip_toys.batch(), skip_toys.batch())
    other = skip_toys.search_over(*skip_toys.prepared(AuxiliarySkip()))
    other.load_state_dict(search.state_dict())
    assert other.mutator.extensions[0].strength == 0.75
    batches = skip_toys.batch(), skip_toys.batch()
    logs = [s.step(*batches) for s in (search, other)]
    assert_close(logs[0], logs[1], rtol=0, atol=0)
    assert_close(search.supernet(x), other.supernet(x), rtol=0, atol=0)


def test_only_ops_with_such_a_choice_are_changed() -> None:
    supernet = toys.ToySupernet()
    with pytest.raises(ConfigError, match=r"\('skip_connect',\); Known: none, linear"):
        mm.DartsMutator(extensions=[AuxiliarySkip()]).prepare_from_supernet(supernet)
    with pytest.raises(ConfigError, match='p0 to be a choice of a DifferentiableOP, but only'):
        mm.DartsMutator(extensions=[AuxiliarySkip(names=['p0'])]).prepare_from_supernet(
            supernet
        )
    mutator = mm.DartsMutator(extensions=[AuxiliarySkip(names=['linear'])])
    mutator.prepare_from_supernet(supernet)
    assert not hasattr(supernet.backbone.node, 'auxiliary_skip')


def test_the_dropout_of_a_candidate_is_not_copied(x: Tensor) -> None:
    for order in (1, -1):
        parts = [SkipDropout(0.5, warmup=0), AuxiliarySkip()][::order]
        supernet, mutator = skip_toys.prepared(*parts)
        assert supernet.first.choices['skip_connect']._forward_hooks
        assert not supernet.first.auxiliary_skip._forward_hooks
        twin, its_mutator = copy.deepcopy((supernet, mutator))
        its_mutator.release(twin)
        assert not [m for m in twin.modules() if m._forward_hooks]


def test_partial_channels() -> None:
    class Net(nn.Sequential):
        def __init__(self, stride: int) -> None:
            choices = {
                'skip_connect': {'type': 'DartsSkipConnect'},
                'pool': {'type': 'DartsPoolBN', 'pool_type': 'avg'},
            }
            args = {'in_channels': 4, 'out_channels': 4, 'stride': stride}
            super().__init__(
                mm.PartialChannelOP(
                    choices, args, channel_proportion=2, space_id='a', with_arch_param=True
                )
            )

    supernet, mutator = toys.prepared(supernet=Net(1), extensions=[AuxiliarySkip(until=1)])
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    out = supernet(x)
    mutator.on_epoch(1, 2)
    assert_close(out, supernet(x) + x)
    text = "space 'a': an auxiliary skip connection with weights cannot.*PartialChannelOP"
    with pytest.raises(ConfigError, match=text):
        toys.prepared(supernet=Net(2), extensions=[AuxiliarySkip()])


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r'`start` .* of at least 0, but got -1'):
        AuxiliarySkip(-1)
    for until in (0, -3, 1.5, 0.0):
        with pytest.raises(ConfigError, match=f'`until` to be an epoch .* but got {until}'):
            AuxiliarySkip(until=until)
    with pytest.raises(ConfigError, match=r"`until` .* but got 'late'"):
        AuxiliarySkip(until='late')
    with pytest.raises(ConfigError, match=r"`names` to be a list .* but got 'skip'"):
        AuxiliarySkip(names='skip')

    class Nested(nn.Sequential):
        def __init__(self) -> None:
            inner = mm.DifferentiableOP(space_id='in', choices={'a': nn.Identity()})
            outer = {'skip_connect': nn.Sequential(inner), 'b': nn.ReLU()}
            super().__init__(mm.DifferentiableOP(space_id='out', choices=outer))

    supernet = Nested()
    before = str(supernet), hooks_of(supernet)
    with pytest.raises(
        ConfigError, match=r"space 'out': .*copy of a choice that holds mutables"
    ):
        mm.DartsMutator(extensions=[AuxiliarySkip()]).prepare_from_supernet(supernet)
    assert (str(supernet), hooks_of(supernet)) == before
    mm.DartsMutator().prepare_from_supernet(supernet)
