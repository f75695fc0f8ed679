"""What is particular to ops, to edges, and to the Gumbel ones among them."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import toys
from torch import nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import InputError, SearchSpaceError
from mmrazor_mutators.functional import relaxations
from mmrazor_mutators.mutables import ParallelSum, SelectedSum
from mmrazor_mutators.mutables.mixing import mix
from mmrazor_mutators.typing import Mixture

CHOICES = {
    'zero': {'type': 'DartsZero'},
    'sep': {'type': 'DartsSepConv', 'kernel_size': 3},
    'pool': {'type': 'DartsPoolBN', 'pool_type': 'max', 'in_channels': 99},
}
gumbel = pytest.mark.parametrize('name', ['GumbelOP', 'GumbelEdge'])


def test_choice_args_win_over_each_choice() -> None:
    before = copy.deepcopy(CHOICES)
    choice_args = {'in_channels': 3, 'out_channels': 5, 'stride': 2}
    op = mm.DifferentiableOP(space_id='a', choices=CHOICES, choice_args=choice_args)
    assert [type(choice).__name__ for choice in op.choice_modules] == [
        'DartsZero',
        'DartsSepConv',
        'DartsPoolBN',
    ]
    assert {choice.in_channels for choice in op.choice_modules} == {3}
    x = torch.randn(2, 3, 7, 6)
    weights = torch.tensor([0.2, 0.3, 0.5])
    mixture = {'a': Mixture(weights)}
    assert_close(op(x, weights.log()), toys.naive_mix(op, x, mixture))
    assert before == CHOICES
    assert choice_args == {'in_channels': 3, 'out_channels': 5, 'stride': 2}


def test_ready_modules_are_kept_and_need_no_arguments() -> None:
    ready = nn.Conv2d(3, 5, 1)
    op = mm.DifferentiableOP(
        space_id='a',
        choices=nn.ModuleDict({'conv': ready}),
        choice_args={'in_channels': 3, 'out_channels': 5},
    )
    assert op.choices['conv'] is ready


def test_an_op_that_does_not_exist() -> None:
    with pytest.raises(mm.NASError, match=r"'DartsZeroo' .*did you mean 'DartsZero'"):
        mm.DifferentiableOP(space_id='a', choices={'zero': {'type': 'DartsZeroo'}})
    with pytest.raises(mm.NASError, match="DartsZero takes no argument 'strides'"):
        mm.DifferentiableOP(
            space_id='a', choices={'zero': CHOICES['zero']}, choice_args={'strides': 2}
        )


def test_more_to_choose_than_there_is() -> None:
    message = r"'a': .*`num_chosen` .*number of choices, 2 \(x, y\), but got 3"
    for cls in (mm.DifferentiableOP, mm.DifferentiableEdge):
        with pytest.raises(SearchSpaceError, match=message):
            cls(space_id='a', num_chosen=3, choices={'x': nn.ReLU(), 'y': nn.Tanh()})


def test_one_shot_chooses_one() -> None:
    choices = {'x': nn.ReLU(), 'y': nn.Tanh()}
    with pytest.raises(
        SearchSpaceError, match=r"'a': .*`num_chosen` of a OneShotOP .*but got 2"
    ):
        mm.OneShotOP(space_id='a', num_chosen=2, choices=choices)


@pytest.mark.parametrize('cls', [mm.DifferentiableEdge, mm.GumbelEdge])
@pytest.mark.parametrize('count', [0, 2, 4])
def test_an_edge_wants_one_input_per_choice(cls: type, count: int) -> None:
    edge = cls(space_id='n', choices={'x': nn.ReLU(), 'y': nn.Tanh(), 'z': nn.Identity()})
    message = f"'n': .* each of the 3 choices x, y, z, but got {count}"
    for kept in (('x', 'y', 'z'), ('z',)):
        edge.export(kept)
        with pytest.raises(InputError, match=message):
            edge([torch.ones(2)] * count, torch.zeros(3))


def test_an_edge_reads_the_right_inputs_after_removal() -> None:
    edge = mm.DifferentiableEdge(
        space_id='n',
        num_chosen=2,
        with_arch_param=False,
        choices={name: nn.Identity() for name in 'wxyz'},
    )
    inputs = [torch.tensor([float(10**i)]) for i in range(4)]
    edge.choice_mask = torch.tensor([1, 1, 0, 1])
    assert edge(inputs).item() == 1011
    edge.export(['z', 'x'])
    assert edge(inputs).item() == 1010
    assert edge.build_plain(edge.choices)(inputs).item() == 1010
    edge.export(['z'])
    assert edge(inputs).item() == 1000


def test_an_edge_keeps_the_module_dict_it_gets() -> None:
    choices = nn.ModuleDict({'x': nn.ReLU()})
    assert mm.DifferentiableEdge(space_id='n', choices=choices).choices is choices


def test_plain_sums() -> None:
    x, y = torch.tensor([-1.0, 2.0]), torch.tensor([3.0, -4.0])
    assert ParallelSum({'a': nn.ReLU(), 'b': nn.Identity()})(x).tolist() == [-1.0, 4.0]
    selected = SelectedSum({'b': nn.ReLU(), 'a': nn.Identity()}, [1, 0])
    assert selected([x, y]).tolist() == [2.0, 2.0]
    assert 'indices=(1, 0)' in str(selected)


def test_zeros_are_not_run() -> None:
    x = torch.randn(5, 4, dtype=torch.float64)
    modules = [m.double() for m in toys.candidates().values()]
    ran = []
    modules[0].register_forward_hook(lambda *_: ran.append('zero'))
    weights = torch.randn(4, dtype=torch.float64, requires_grad=True)
    out = mix(modules, [x] * 4, Mixture(weights))
    expected = sum(w * m(x) for w, m in zip(weights[1:], modules[1:], strict=True))
    assert ran == []
    assert_close(out, expected)
    mine, naive = (torch.autograd.grad(y.square().sum(), weights)[0] for y in (out, expected))
    assert_close(mine, naive)
    alone = mix(modules[:1], [x], Mixture(weights[:1]))
    assert ran == ['zero']
    assert_close(alone, torch.zeros(5, 4, dtype=torch.float64))
    silent = mix(modules, [x] * 4, Mixture(weights, paths=(1,), silent=(0,)))
    assert ran == ['zero']
    assert_close(silent, weights[1] * modules[1](x))


@gumbel
@pytest.mark.parametrize('hard', [True, False])
def test_gumbel_weights_in_closed_form(
    name: str, hard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = torch.tensor([0.7, -0.2, 0.4], dtype=torch.float64)
    monkeypatch.setattr(relaxations, 'gumbel_noise', lambda like: noise)
    cfg = {'type': name, 'space_id': 'a', 'choices': toys.units(), 'hard': hard, 'tau': 2.0}
    mutable = mm.build_mutable(cfg).double()
    logits = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)
    for tau in (2.0, 0.25):
        mutable.set_temperature(tau)
        powers = [math.exp((a + g) / tau) for a, g in zip(logits, noise, strict=True)]
        soft = [power / sum(powers) for power in powers]
        expected = [1.0, 0.0, 0.0] if hard else soft
        x = torch.ones(2, dtype=torch.float64)
        out = mutable([x] * 3 if 'Edge' in name else x, logits)
        assert out.tolist() == pytest.approx(expected)


@gumbel
@pytest.mark.parametrize('tau', [0, -1.0, math.nan, 'warm', None])
def test_gumbel_temperatures(name: str, tau: Any) -> None:
    cfg = {'type': name, 'space_id': 'a', 'choices': {'x': nn.ReLU()}}
    with pytest.raises(SearchSpaceError, match=f"'a': .*temperature above 0, but got {tau!r}"):
        mm.build_mutable({**cfg, 'tau': tau})
    mutable = mm.build_mutable(cfg)
    assert (mutable.tau, mutable.hard) == (1.0, True)
    with pytest.raises(SearchSpaceError, match=f"'a': .*temperature above 0, but got {tau!r}"):
        mutable.set_temperature(tau)
    assert mutable.tau == 1.0
