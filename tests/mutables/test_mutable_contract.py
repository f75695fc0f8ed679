"""What every mutable promises; one that is registered joins without a new line here."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, SearchSpaceError, SubnetError
from mmrazor_mutators.mutators import bind, release
from mmrazor_mutators.typing import Mixture

CONCRETE = {
    name: cls
    for name, cls in mm.MUTABLES.module_dict.items()
    if issubclass(cls, mm.mutables.ModuleMutable) and not inspect.isabstract(cls)
}
NAMES = ('none', 'linear', 'norm', 'deep')
# What lets a mutable take candidates that change the width, and keeps one of them.
ARGUMENTS: dict[str, dict[str, Any]] = {
    'PartialChannelOP': {'channel_proportion': 1},
    'DiffChoiceRoute': {'num_chosen': 1, 'with_arch_param': True},
    'GumbelChoiceRoute': {'num_chosen': 1, 'with_arch_param': True},
}


def is_learning(name: str) -> bool:
    return hasattr(CONCRETE[name], 'build_arch_param')


every = pytest.mark.parametrize('name', CONCRETE)
learning = pytest.mark.parametrize('name', [name for name in CONCRETE if is_learning(name)])


def build(name: str, **kwargs: Any) -> Any:
    cfg = {'type': name, 'space_id': 'a', 'choices': toys.candidates(3, 4), **kwargs}
    cfg = {**ARGUMENTS.get(name, {}), **cfg}
    return mm.build_mutable(cfg).double()


def inputs_of(mutable: Any) -> Any:
    tensors = [torch.randn(6, 3, dtype=torch.float64) for _ in NAMES]
    return tensors if isinstance(mutable, mm.MutableEdge) else tensors[0]


def outputs_of(mutable: Any, x: Any, names: Any = NAMES) -> list[Tensor]:
    """What every choice makes of its input, in the order of ``names``."""
    inputs = (
        dict(zip(NAMES, x, strict=True)) if isinstance(x, list) else dict.fromkeys(NAMES, x)
    )
    return [mutable.choices[name](inputs[name]) for name in names]


def logits() -> Tensor:
    return torch.randn(4, dtype=torch.float64, requires_grad=True)


def call(mutable: Any, x: Any, arch_param: Any = None) -> Tensor:
    """Call a mutable, with logits if it takes any."""
    takes_logits = hasattr(mutable, 'build_arch_param')
    return toys.run(mutable, x, arch_param) if takes_logits else mutable(x)


@every
def test_names(name: str) -> None:
    mutable = build(name)
    assert isinstance(mutable, mm.MutableModule)
    assert mutable.choice_names == mutable.full_choice_names == mutable.active_names == NAMES
    assert mutable.choice_modules == tuple(mutable.choices[n] for n in NAMES)
    assert (mutable.num_choices, mutable.num_chosen, mutable.is_fixed) == (4, 1, False)
    assert_close(mutable.build_space_mask(), torch.ones(4))
    assert mutable.choice_mask.tolist() == [True] * 4


@learning
def test_mixture_and_its_gradients(name: str) -> None:
    mutable, alpha = build(name), logits()
    with torch.no_grad():
        alpha[0] -= 9  # Where one choice is drawn, the one that is zero would show nothing.
    x = inputs_of(mutable)
    weights = toys.run(mutable.compute_arch_probs, alpha)
    expected = sum(w * o for w, o in zip(weights, outputs_of(mutable, x), strict=True))
    out = call(mutable, x, alpha)
    assert_close(out, expected)
    leaves = [alpha, *mutable.parameters()]
    slope = torch.randn_like(out)
    mine, naive = (
        torch.autograd.grad((y * slope).sum(), leaves, allow_unused=True)
        for y in (out, expected)
    )
    assert mine[0].abs().max() > 0
    assert_close(mine, naive)


@learning
def test_what_is_lent_decides(name: str) -> None:
    mutable = build(name)
    parameter = nn.Parameter(logits().detach())
    weights = torch.tensor([0.5, 2.0, -1.0, 0.25], dtype=torch.float64)
    bind(mutable, parameter, lambda alpha: Mixture(weights))
    x = inputs_of(mutable)
    outputs = outputs_of(mutable, x)
    assert_close(mutable(x), sum(w * o for w, o in zip(weights, outputs, strict=True)))
    release(mutable)
    bind(mutable, parameter, lambda alpha: Mixture(weights, paths=(3,), silent=(1,)))
    # What neither runs nor is silent lends the gradient of its weight and nothing else.
    expected = 2.0 * outputs[1].detach() + 0.25 * outputs[3]
    out = mutable(x)
    assert_close(out, expected)
    out.sum().backward()
    weights.requires_grad_()
    out = mutable(x)
    assert_close(out, expected)
    ones = torch.ones_like(outputs[0])
    slopes = [(y * ones).sum() for y in (ones, outputs[1], ones, outputs[3])]
    assert_close(torch.autograd.grad(out.sum(), weights)[0], torch.stack(slopes))
    assert all(p.grad is None for p in mutable.choices['linear'].parameters())
    assert all(p.grad is not None for p in mutable.choices['deep'].parameters())
    release(mutable)
    with pytest.raises(BindingError, match=r"'a' got no `arch_param`; call .*prepare_from"):
        mutable(x)


@learning
def test_without_an_arch_param_choices_are_summed(name: str) -> None:
    mutable = build(name, with_arch_param=False)
    assert mutable.build_arch_param() is None
    x = inputs_of(mutable)
    assert_close(mutable(x), sum(outputs_of(mutable, x)))


@learning
def test_logits_start_close_to_zero(name: str) -> None:
    drawn = torch.cat([build(name).build_arch_param().detach() for _ in range(250)])
    assert abs(float(drawn.std()) - 1e-3) < 4 * 1e-3 / (2 * len(drawn)) ** 0.5
    assert abs(float(drawn.mean())) < 4 * 1e-3 / len(drawn) ** 0.5


@every
@pytest.mark.parametrize('mask', [[1, 0, 0, 0], [0, 1, 0, 1], [0.0, 0.0, 2.5, 0.0]])
def test_masks(name: str, mask: list[float]) -> None:
    mutable = build(name, **({'with_arch_param': False} if is_learning(name) else {}))
    x = inputs_of(mutable)
    active = [n for n, runs in zip(NAMES, mask, strict=True) if runs]
    mutable.choice_mask = torch.tensor(mask)
    assert mutable.active_names == tuple(active)
    assert mutable.choice_mask.tolist() == [bool(runs) for runs in mask]
    ran = []
    for key, choice in mutable.choices.items():
        choice.register_forward_hook(lambda *_, key=key: ran.append(key))
    out = mutable(x)
    assert ran == active
    assert_close(out, sum(outputs_of(mutable, x, active)))
    mutable.set_choice_mask(mutable.build_choice_mask())
    assert_close(mutable(x), sum(outputs_of(mutable, x)))


@every
def test_masks_that_do_not_fit(name: str) -> None:
    mutable = build(name)
    for mask, message in [
        (torch.ones(3), r"'a': .* shape \(4,\), but got \(3,\)"),
        (torch.ones(1, 4), r"'a': .* shape \(4,\), but got \(1, 4\)"),
        (torch.zeros(4), r"'a': .*none, linear, norm, deep run, but got \[0\.0, 0\.0, 0\.0, 0"),
    ]:
        with pytest.raises(SubnetError, match=message):
            mutable.set_choice_mask(mask)
        assert mutable.active_names == NAMES
    mutable.export(['norm'])
    with pytest.raises(SubnetError, match=r"'a': .* one of norm run, but got \[True, False"):
        mutable.choice_mask = torch.tensor([True, False, False, False])
    mutable.choice_mask = torch.tensor([True, False, True, False])
    assert mutable.active_names == ('norm',)


@every
def test_a_mask_that_is_no_tensor(name: str) -> None:
    with pytest.raises(SubnetError, match=r"'a': .*but got \[True, False, True, False\]"):
        build(name).set_choice_mask([True, False, True, False])


@every
@pytest.mark.parametrize('chosen', [['norm'], ['deep', 'linear'], ('none', 'linear', 'deep')])
def test_export(name: str, chosen: Any) -> None:
    mutable = build(name)
    x = inputs_of(mutable)
    kept = [n for n in NAMES if n in chosen]
    expected = sum(outputs_of(mutable, x, kept))
    plain = mutable.build_plain({n: mutable.choices[n] for n in kept})
    ids = [id(mutable.choices[n]) for n in kept]
    mutable.export(chosen)
    assert mutable.is_fixed
    assert mutable.choice_names == tuple(kept)
    assert [id(choice) for choice in mutable.choice_modules] == ids
    assert mutable.full_choice_names == NAMES
    # Nothing is weighted any more, and an edge still gets all its inputs.
    assert_close(mutable(x), expected)
    assert_close(call(mutable, x, logits()), expected)
    assert_close(plain(x), expected)
    assert not isinstance(plain, mm.MutableModule)
    mutable.export(kept[-1:])
    assert mutable.choice_names == (kept[-1],)


@every
@pytest.mark.parametrize(
    ('chosen', 'message'),
    [
        (['lineal'], "no choice 'lineal'; did you mean 'linear'"),
        (['linear', 'conv'], "no choice 'conv'; Known: none, linear, norm, deep"),
        (['norm', 'norm'], r"each named once, but got \['norm', 'norm'\]"),
        ([], r'at least one choice, .*but got \[\]'),
        ('norm', "list of choice names, but got 'norm'"),
        (None, 'list of choice names, but got None'),
        (3, 'list of choice names, but got 3'),
        ([2], 'no choice 2'),
        ([['norm']], r"\['norm'\]"),
    ],
)
def test_export_of_what_is_not_there(name: str, chosen: Any, message: str) -> None:
    mutable = build(name)
    with pytest.raises(SubnetError, match=f"In space 'a': .*{message}"):
        mutable.export(chosen)
    assert mutable.choice_names == NAMES
    assert not mutable.is_fixed


@every
def test_copies(name: str) -> None:
    mutable = build(name)
    alpha = nn.Parameter(logits().detach())
    x = inputs_of(mutable)
    if is_learning(name):
        bind(mutable, alpha, lambda logits: Mixture(logits.sin()))
        assert mutable.forward.func.__self__ is mutable
    expected = mutable(x)
    shallow = copy.copy(mutable)
    shallow._modules = dict(shallow._modules)
    shallow.choices = nn.ModuleDict(toys.candidates(3, 4)).double()
    shallow.choices.load_state_dict({k: 0 * v for k, v in mutable.choices.state_dict().items()})
    assert_close(mutable(x), expected)
    assert not shallow(x).any()
    if is_learning(name):
        assert shallow.forward.keywords['arch_param'] is alpha
        release(shallow)
        assert_close(mutable(x), expected)
        release(mutable)
    for twin in (copy.deepcopy(mutable), pickle.loads(pickle.dumps(mutable))):
        assert_close(call(twin, x, alpha), call(mutable, x, alpha), rtol=0, atol=0)
        twin.export(['norm'])
        for mine, other in zip(
            twin.choices['norm'].parameters(), mutable.choices['norm'].parameters(), strict=True
        ):
            assert mine.data_ptr() != other.data_ptr()
        assert mutable.choice_names == NAMES


@every
def test_state_dict_holds_the_choices_alone(name: str) -> None:
    mutable, other = build(name), build(name)
    mutable.choice_mask = torch.tensor([0, 1, 0, 0])
    state = mutable.state_dict()
    assert set(state) == {f'choices.{key}' for key in mutable.choices.state_dict()}
    other.load_state_dict(state, strict=True)
    x, alpha = inputs_of(mutable), logits()
    mutable.choice_mask = torch.ones(4)
    assert_close(call(other, x, alpha), call(mutable, x, alpha), rtol=0, atol=0)


@every
@pytest.mark.parametrize('space_id', ['', 3, None])
def test_ids_that_are_no_names(name: str, space_id: Any) -> None:
    with pytest.raises(SearchSpaceError, match=f'`space_id`.*{space_id!r}'):
        build(name, space_id=space_id)


@every
@pytest.mark.parametrize('space_id', ['a.b', 'keys', 'training', '_parameters'])
def test_ids_that_no_parameter_can_have(name: str, space_id: Any) -> None:
    if not is_learning(name):
        assert build(name, space_id=space_id).space_id == space_id
        return
    with pytest.raises(SearchSpaceError, match=f'`space_id`.*{space_id!r}'):
        build(name, space_id=space_id)


@every
@pytest.mark.parametrize('num_chosen', [0, -1, 1.0, '1', None, True])
def test_illegal_num_chosen(name: str, num_chosen: Any) -> None:
    with pytest.raises(SearchSpaceError, match=f"'a': .*`num_chosen` .*but got {num_chosen!r}"):
        build(name, num_chosen=num_chosen)


@every
@pytest.mark.parametrize(
    ('choices', 'message'),
    [
        ({}, r'but got {}'),
        ([nn.ReLU()], r'but got \[ReLU\(\)\]'),
        ('none', "but got 'none'"),
        (None, 'but got None'),
        ({'a': nn.ReLU(), 'b': 3}, r"but got ({'a': ReLU\(\), 'b': )?3"),
        ({'a.b': nn.ReLU()}, r"'a\.b' cannot name"),
        ({'keys': nn.ReLU()}, "'keys' cannot name"),
        ({3: nn.ReLU()}, '3 cannot name'),
        ({'': nn.ReLU()}, "'' cannot name"),
    ],
)
def test_illegal_choices(name: str, choices: Any, message: str) -> None:
    with pytest.raises(SearchSpaceError, match=f"In space 'a': .*{message}"):
        build(name, choices=choices)


@learning
def test_illegal_with_arch_param(name: str) -> None:
    with pytest.raises(SearchSpaceError, match=r"'a': .*`with_arch_param` .*but got 'no'"):
        build(name, with_arch_param='no')
