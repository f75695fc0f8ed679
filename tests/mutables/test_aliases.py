"""The names and arguments of MMRazor 1.0's mutables."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import toys
from torch import nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, SearchSpaceError
from mmrazor_mutators.mutables import build_search_spaces

OPS = {
    'zero': {'type': 'DartsZero'},
    'conv': {'type': 'DartsSepConv', 'kernel_size': 3, 'in_channels': 99},
}
SHAPES = {'in_channels': 3, 'out_channels': 4, 'stride': 2}
THEIRS = {'DiffMutableOP': mm.DifferentiableOP, 'OneShotMutableOP': mm.OneShotOP}


def edges() -> nn.ModuleDict:
    return nn.ModuleDict({f'p{i}': nn.Linear(3, 4) for i in range(3)}).double()


@pytest.mark.parametrize('name', ['DiffMutableOP', 'OneHotMutableOP', 'OneShotMutableOP'])
def test_arguments_of_an_op(name: str) -> None:
    cfg = {'type': name, 'candidates': OPS, 'module_kwargs': SHAPES, 'alias': 'normal_n2_p0'}
    op = mm.build_mutable(cfg)
    assert (op.space_id, op.choice_names) == ('normal_n2_p0', ('zero', 'conv'))
    assert op.choices['conv'](torch.randn(2, 3, 6, 6)).shape == (2, 4, 3, 3)
    assert OPS['conv']['in_channels'] == 99
    assert isinstance(op, THEIRS.get(name, mm.DiffMutableOP))
    # In a placeholder our names and theirs meet.
    names = {'space_id': 'a', 'choice_args': SHAPES}
    assert mm.build_mutable({'type': name, 'candidates': OPS, **names}).space_id == 'a'


@pytest.mark.parametrize('name', ['DiffMutableOP', 'OneShotMutableOP'])
def test_an_op_does_what_ours_does(name: str) -> None:
    torch.manual_seed(0)
    choices, x, alpha = toys.candidates(3, 4), torch.randn(5, 3), torch.randn(4)
    theirs: Any = mm.build_mutable({'type': name, 'candidates': choices, 'alias': 'a'})
    ours: Any = THEIRS[name](choices=choices, space_id='a')
    args = (x,) if name == 'OneShotMutableOP' else (x, alpha)
    assert_close(theirs.eval()(*args), ours.eval()(*args), rtol=0, atol=0)


def test_routes() -> None:
    choices = edges()
    x = [torch.randn(2, 3, dtype=torch.float64) for _ in choices]
    route = mm.DiffChoiceRoute(choices, alias='n')
    assert (route.num_chosen, route.with_arch_param, route.space_id) == (2, False, 'n')
    outputs = [edge(tensor) for edge, tensor in zip(choices.values(), x, strict=True)]
    assert_close(route(x), sum(outputs))
    weighted = mm.DiffChoiceRoute(choices, num_chosen=1, with_arch_param=True, alias='n')
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    expected = sum(w * output for w, output in zip(weights, outputs, strict=True))
    assert_close(weighted(x, arch_param=weights.log()), expected)
    single = nn.ModuleDict({'p0': nn.Identity()})
    assert mm.DiffChoiceRoute(single, alias='n').num_chosen == 1
    assert mm.DiffChoiceRoute(choices=choices, space_id='n').num_chosen == 2


def test_gumbel_routes() -> None:
    x = [torch.randn(2, 3, dtype=torch.float64) for _ in range(3)]
    choices, alpha = edges(), torch.randn(3, dtype=torch.float64)
    theirs = mm.GumbelChoiceRoute(choices, tau=0.5, hard=False, with_arch_param=True, alias='n')
    ours = mm.GumbelEdge(choices=choices, tau=0.5, hard=False, num_chosen=2, space_id='n')
    assert theirs.num_chosen == 2
    assert_close(toys.run(theirs, x, alpha), toys.run(ours, x, alpha), rtol=0, atol=0)
    theirs.set_temperature(0.25)
    assert theirs.tau == 0.25
    assert mm.GumbelChoiceRoute(choices, alias='n').hard is True


def test_one_hot_weights_are_drawn_by_the_softmax() -> None:
    op = mm.OneHotMutableOP(toys.candidates(), alias='a')
    probs = torch.tensor([0.1, 0.2, 0.3, 0.4])
    torch.manual_seed(0)
    drawn = torch.stack([op.compute_arch_probs(probs.log()) for _ in range(4000)])
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn.sum(1).eq(1).all()
    error = (probs * (1 - probs) / 4000).sqrt()
    assert (drawn.mean(0) - probs).abs().lt(4 * error).all()


def test_the_gradient_of_a_one_hot_draw_is_that_of_its_score() -> None:
    op = mm.OneHotMutableOP(toys.candidates(), alias='a')
    alpha = torch.randn(4, dtype=torch.float64, requires_grad=True)
    weights = toys.run(op.compute_arch_probs, alpha)
    index = int(weights.argmax())
    slope = torch.randn(4, dtype=torch.float64)
    (mine,) = torch.autograd.grad((weights * slope).sum(), alpha)
    (score,) = torch.autograd.grad(alpha.log_softmax(-1)[index], alpha)
    assert_close(mine, slope[index] * score)


def test_both_names_of_an_argument() -> None:
    both: list[tuple[Any, dict[str, Any], str]] = [
        (
            mm.DiffMutableOP,
            {'alias': 'a', 'space_id': 'b'},
            "`alias` or .*'a' and 'b'",
        ),
        (mm.OneShotMutableOP, {'candidates': OPS, 'choices': {'c': 1}}, "`candidates` or.*'c'"),
        (mm.DiffMutableOP, {'module_kwargs': {'a': 1}, 'choice_args': {'b': 2}}, "'b': 2"),
        (mm.DiffChoiceRoute, {'edges': edges(), 'choices': edges()}, '`edges` or `choices`'),
    ]
    for cls, arguments, message in both:
        with pytest.raises(ConfigError, match=message):
            cls(**arguments)


@pytest.mark.parametrize('threshold', [-0.1, 1.1])
def test_thresholds(threshold: float) -> None:
    for fine in (0, 0.3, 1.0):
        op = mm.DiffMutableOP(toys.candidates(), fix_threshold=fine, alias='a')
        assert op.fix_threshold == fine
    with pytest.raises(ConfigError, match=f'from 0 to 1, but got {threshold}'):
        mm.DiffMutableOP(toys.candidates(), fix_threshold=threshold, alias='a')


def test_illegal_choices_and_aliases() -> None:
    for cls in (mm.DiffMutableOP, mm.OneShotMutableOP):
        with pytest.raises(SearchSpaceError, match=r"'a'.*`choices` .* but got None"):
            cls(alias='a')
    with pytest.raises(SearchSpaceError, match=r"'a'.*`choices` of an edge.* but got None"):
        mm.DiffChoiceRoute(alias='a')
    with pytest.raises(SearchSpaceError, match=r"without '.', but got 'backbone.0'"):
        mm.DiffMutableOP(toys.candidates(), alias='backbone.0')
    with pytest.raises(SearchSpaceError, match=r'`num_chosen` .* but got 0'):
        mm.DiffChoiceRoute(edges(), num_chosen=0, alias='a')


def test_without_an_alias_only_nas_mutator_names_the_space() -> None:
    supernet = nn.Sequential(mm.DiffMutableOP(toys.candidates()))
    with pytest.raises(SearchSpaceError, match=r'none, linear, norm, deep has no `alias`'):
        build_search_spaces(supernet)
    with pytest.raises(SearchSpaceError, match=r'DiffMutableOP .* use NasMutator'):
        mm.DartsMutator().prepare_from_supernet(supernet)
    mutator = mm.NasMutator()
    mutator.prepare_from_supernet(supernet)
    assert list(mutator.arch_params) == ['0']
