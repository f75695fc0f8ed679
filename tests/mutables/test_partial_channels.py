"""Partial channels against loops over channels and pixels."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from naive_channels import partial_mixture, pooled, shuffled
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import InputError, SearchSpaceError
from mmrazor_mutators.functional import channel_shuffle, rejoin_channels
from mmrazor_mutators.mutables import ParallelSum, PartialChannels

CHOICES = {
    'none': {'type': 'DartsZero'},
    'max_pool': {'type': 'DartsPoolBN', 'pool_type': 'max'},
    'skip': {'type': 'DartsSkipConnect'},
    'sep_conv': {'type': 'DartsSepConv', 'kernel_size': 3},
    'dil_conv': {'type': 'DartsDilConv', 'kernel_size': 5},
}
both_formats = pytest.mark.parametrize(
    'memory_format', [torch.contiguous_format, torch.channels_last]
)


def build(proportion: int = 4, channels: int = 8, stride: int = 1, **kwargs: Any) -> Any:
    args = {'in_channels': channels, 'out_channels': channels, 'stride': stride}
    cfg = {
        'type': 'PartialChannelOP',
        'space_id': 'a',
        'choices': CHOICES,
        'choice_args': args,
        'channel_proportion': proportion,
        **kwargs,
    }
    return mm.build_mutable(cfg).double()


def images(channels: int = 8, size: tuple[int, int] = (6, 8)) -> Tensor:
    return torch.randn(3, channels, *size, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize('size', [(6, 8), (5, 7), (1, 4)])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('proportion', [1, 2, 4])
def test_mixture_and_gradients(proportion: int, stride: int, size: tuple[int, int]) -> None:
    mutable, x = build(proportion, stride=stride), images(size=size)
    alpha = torch.randn(5, dtype=torch.float64, requires_grad=True)
    out = mutable(x, alpha)
    expected = partial_mixture(mutable.choice_modules, alpha.softmax(-1), x, proportion)
    assert out.shape == (3, 8, *(-(-side // stride) for side in size))
    assert_close(out, expected)
    leaves = [alpha, x, *mutable.parameters()]
    slope = torch.randn_like(out)
    mine, naive = (
        torch.autograd.grad((y * slope).sum(), leaves, allow_unused=True)
        for y in (out, expected)
    )
    assert mine[0].abs().min() > 0
    assert_close(mine, naive)


def test_candidates_have_their_share_of_the_channels() -> None:
    for proportion, channels in [(1, 8), (2, 4), (4, 2), (8, 1)]:
        mutable = build(proportion)
        shapes = [(op.in_channels, op.out_channels) for op in mutable.choice_modules]
        assert shapes == [(channels, channels)] * 5


def test_candidates_touch_the_first_channels_alone() -> None:
    mutable, x, alpha = build(4), images(), torch.randn(5, dtype=torch.float64)
    seen = []
    for name in ('max_pool', 'skip', 'sep_conv'):
        mutable.choices[name].register_forward_hook(lambda m, args, out: seen.append(args[0]))
    out = mutable(x, alpha)
    assert len(seen) == 3
    for part in seen:
        assert_close(part, x[:, :2], rtol=0, atol=0)
    # Of places 0 to 7, 0 and 4 are mixed; the others hold channels 2, 4, 6 and 3, 5, 7.
    bypassed = {1: 2, 2: 4, 3: 6, 5: 3, 6: 5, 7: 7}
    for place, channel in bypassed.items():
        assert_close(out[:, place], x[:, channel], rtol=0, atol=0)
    assert (out[:, [0, 4]] - x[:, :2]).abs().max() > 0.1


def test_all_weight_on_one_choice_runs_its_path_alone() -> None:
    mutable, x = build(4), images()
    weights = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    mixture = mm.typing.Mixture(weights, paths=(3,))
    ran = []
    for name, choice in mutable.choices.items():
        choice.register_forward_hook(lambda *_, name=name: ran.append(name))
    out = mutable(x, weights, lambda _: mixture)
    assert ran == ['sep_conv']
    assert_close(out, partial_mixture([mutable.choices['sep_conv']], [1.0], x, 4))


@both_formats
@pytest.mark.parametrize(
    ('shape', 'groups'), [((2, 12, 3, 5), 4), ((2, 6, 1, 3), 3), ((1, 4, 2, 2), 1), ((2, 8), 2)]
)
def test_shuffle(shape: tuple[int, ...], groups: int, memory_format: Any) -> None:
    x = torch.randn(shape)
    if x.dim() == 4:
        x = x.contiguous(memory_format=memory_format)
    out = channel_shuffle(x, groups)
    assert_close(out, shuffled(x, groups), rtol=0, atol=0)
    assert_close(channel_shuffle(out, shape[1] // groups), x, rtol=0, atol=0)
    assert out.stride() == x.stride()


@both_formats
@pytest.mark.parametrize('stride', [1, 2])
def test_memory_formats(stride: int, memory_format: Any) -> None:
    mutable, x, alpha = build(2, stride=stride), images(), torch.randn(5, dtype=torch.float64)
    expected = mutable(x, alpha)
    out = mutable.to(memory_format=memory_format)(
        x.contiguous(memory_format=memory_format), alpha
    )
    assert out.is_contiguous(memory_format=memory_format)
    assert_close(out, expected)


@pytest.mark.parametrize('size', [(4, 6), (5, 6), (3, 1)])
def test_rejoining_is_concatenation_and_shuffle(size: tuple[int, int]) -> None:
    half = tuple(-(-side // 2) for side in size)
    bypass = torch.randn(2, 9, *size)
    for shape in {size, half}:
        mixed = torch.randn(2, 3, *shape)
        rest = bypass if shape == size else pooled(bypass)
        expected = shuffled(torch.cat([mixed, rest], dim=1), 4)
        assert_close(rejoin_channels(mixed, bypass), expected, rtol=0, atol=0)


@pytest.mark.parametrize('stride', [1, 2])
def test_all_channels_make_an_ordinary_op(stride: int) -> None:
    mutable, x, alpha = build(1, stride=stride), images(), torch.randn(5, dtype=torch.float64)
    kwargs = {'choices': dict(mutable.choices.items()), 'space_id': 'a'}
    ordinary = mm.DifferentiableOP(**kwargs)
    assert_close(mutable(x, alpha), ordinary(x, alpha), rtol=0, atol=0)
    chosen = {'skip': mutable.choices['skip']}
    assert mutable.build_plain(chosen) is chosen['skip']


@pytest.mark.parametrize('chosen', [['sep_conv'], ['none'], ['skip', 'dil_conv']])
@pytest.mark.parametrize('stride', [1, 2])
def test_plain_equals_deployed(stride: int, chosen: list[str]) -> None:
    mutable, x = build(4, stride=stride, num_chosen=2), images(size=(5, 6))
    modules = {name: mutable.choices[name] for name in chosen}
    expected = partial_mixture(list(modules.values()), torch.ones(len(chosen)), x, 4)
    plain = mutable.build_plain(modules)
    mutable.export(chosen)
    assert_close(mutable(x), expected)
    assert_close(plain(x), expected)
    for twin in (copy.deepcopy(plain), pickle.loads(pickle.dumps(plain))):
        assert_close(twin(x), expected)
    assert type(plain) is PartialChannels
    assert plain.channel_proportion == 4
    assert plain.op is modules[chosen[0]] if len(chosen) == 1 else type(plain.op) is ParallelSum
    # What is not zero as a whole must not be left out of a sum.
    assert not getattr(plain, 'is_zero', False)
    assert 'channel_proportion=4' in str(plain)
    assert 'channel_proportion=4' in str(mutable)


def test_ready_modules_are_taken_as_they_are() -> None:
    choices = {'conv': nn.Conv2d(2, 2, 3, padding=1).double(), 'relu': nn.ReLU()}
    mutable, x = build(4, choices=choices), images()
    assert mutable.choices['conv'] is choices['conv']
    alpha = torch.randn(2, dtype=torch.float64)
    assert_close(
        mutable(x, alpha), partial_mixture(list(choices.values()), alpha.softmax(-1), x, 4)
    )


def test_a_config_may_bring_its_own_channels() -> None:
    choices = {'skip': {'type': 'DartsSkipConnect', 'in_channels': 8, 'out_channels': 8}}
    before = copy.deepcopy(choices)
    mutable = build(4, choices=choices, choice_args=None)
    assert mutable.choices['skip'].in_channels == 2
    args = {'in_channels': 16, 'out_channels': 16}
    assert build(4, choices=choices, choice_args=args).choices['skip'].in_channels == 4
    assert choices == before
    assert args == {'in_channels': 16, 'out_channels': 16}


@pytest.mark.parametrize('proportion', [0, -2, 2.0, '4', None, True])
def test_illegal_proportions(proportion: Any) -> None:
    with pytest.raises(
        SearchSpaceError, match=f"'a': .*`channel_proportion` .*least 1, but got {proportion!r}"
    ):
        build(proportion)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((8, 6), "'a': .*`in_channels` and `out_channels` to be equal, .*but got 8 and 6"),
        ((6, 6), "'a': .*`in_channels` .*channel_proportion=4, but got 6"),
        ((2, 2), "'a': .*`in_channels` .*channel_proportion=4, but got 2"),
        ((0, 0), "'a': .*`in_channels` .*channel_proportion=4, but got 0"),
        (('8', '8'), "'a': .*`in_channels` .*channel_proportion=4, but got '8'"),
    ],
)
def test_channels_that_cannot_be_divided(arguments: tuple[Any, Any], message: str) -> None:
    args = dict(zip(('in_channels', 'out_channels'), arguments, strict=True))
    with pytest.raises(SearchSpaceError, match=message):
        build(4, choice_args=args)


def test_all_channels_may_change_their_number() -> None:
    mutable = build(1, choice_args={'in_channels': 8, 'out_channels': 6})
    assert mutable(images(), torch.zeros(5, dtype=torch.float64)).shape == (3, 6, 6, 8)


def test_inputs_that_do_not_fit() -> None:
    alpha = torch.zeros(5, dtype=torch.float64)
    for channels in (6, 2):
        message = rf'proportion 4, but got shape \(3, {channels}, 6, 8\)'
        with pytest.raises(InputError, match=message):
            build(4)(images(channels), alpha)
    one = torch.zeros(1, dtype=torch.float64)
    wider = build(2, choices={'conv': nn.Conv2d(4, 5, 1)})
    with pytest.raises(InputError, match=r'on 4 of 8 channels .* shape \(3, 5, 6, 8\)'):
        wider(images(), one)
    smaller = build(2, choices={'conv': nn.Conv2d(4, 4, 1, stride=3)})
    with pytest.raises(InputError, match=r'size .*\(3, 4, 2, 3\) and \(3, 4, 6, 8\)'):
        smaller(images(), one)
    with pytest.raises(InputError, match=r'number that divides .*\(1, 2, 4\) and \(1, 3, 4\)'):
        rejoin_channels(torch.ones(1, 2, 4), torch.ones(1, 3, 4))
    for groups in (4, 0):
        with pytest.raises(InputError, match=rf'into {groups} groups, .*\(1, 6, 2, 2\)'):
            channel_shuffle(torch.ones(1, 6, 2, 2), groups)
