"""Losses that are scaled, so that gradients in float16 do not vanish."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from execution_searches import batches as images_of
from execution_searches import built, search_over
from looks import counted
from test_accumulation import in_parts
from test_search_distributed import batches, outcome, small_search
from torch import nn
from torch.testing import assert_close
from toy_searches import (
    HYPERGRADIENTS,
    ToySupernet,
    assert_same_state,
    state_of,
    toy_batches,
)

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, NonFiniteLossError
from mmrazor_mutators.search.loss_scale import LossScale, loss_scale_for

SMALL = {'init_scale': 8.0, 'growth_interval': 2}


@pytest.mark.parametrize('name', HYPERGRADIENTS)
@pytest.mark.parametrize('kind', ['DartsMutator', 'GDASMutator'])
def test_each_hypergradient_in_double_precision(name: str, kind: str) -> None:
    """A scale that is a power of 2 changes nothing, also where it grows in between."""
    plain = small_search(kind, name, grad_clip=0.1)
    scaled = small_search(kind, name, grad_clip=0.1, scaler=SMALL)
    for seed in range(4):
        logs = []
        for search in (plain, scaled):
            torch.manual_seed(seed)
            logs.append(search.step(*batches()))
        assert_close(logs[1], logs[0], rtol=1e-10, atol=1e-12)
    # Where a vector is divided by its length and multiplied again, sums are rounded alike.
    assert_same_state(outcome(scaled), outcome(plain), rtol=1e-9, atol=1e-11)
    assert scaled.loss_scale.value == 32.0


@pytest.mark.parametrize('options', [{'single_level': True}, {'accumulate': 2}])
def test_other_steps(options: Any) -> None:
    kind = 'SNASMutator' if 'single_level' in options else 'DartsMutator'
    plain, scaled = small_search(kind, **options), small_search(kind, scaler=SMALL, **options)
    pair = in_parts(2) if 'accumulate' in options else batches()
    for search in (plain, scaled):
        torch.manual_seed(0)
        search.step(*pair)
        search.step_weights(*pair)
    assert_same_state(outcome(scaled), outcome(plain), rtol=1e-10, atol=1e-12)


def flat(grads: Any) -> Any:
    return torch.cat([grad.flatten() for grad in grads])


def smooth_search(name: str = 'first_order', **options: Any) -> Any:
    """Return a search in single precision, of a supernet that has no kinks."""
    torch.manual_seed(0)
    supernet, mutator = ToySupernet(), mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    for arch_param in mutator.arch_params.values():
        nn.init.normal_(arch_param)
    return search_over(supernet, mutator, name, **options)


@pytest.mark.parametrize('name', ['first_order', 'exact', 'neumann', 'cg'])
def test_each_hypergradient_in_float16(name: str) -> None:
    """Right up to rounding, where a loss is so small that gradients vanish without a scale."""
    tiny = 2.0**-16
    found = {}
    for how, options in (
        ('full', {}),
        ('scaled', {'autocast': 'float16', 'scaler': {'init_scale': 2.0**14}}),
        ('not scaled', {'autocast': 'float16', 'scaler': {'init_scale': 1.0}}),
    ):
        search = smooth_search(name, **options)
        search.loss_fn = lambda x, y: tiny * nn.functional.cross_entropy(x, y)
        torch.manual_seed(1)
        data = [(images.float(), labels) for images, labels in toy_batches(size=16)]
        found[how] = flat(search.hypergradient(search, *data).grads)
        assert found[how].dtype == torch.float32
    size = found['full'].norm()
    assert size > 0
    errors = {how: float((grads - found['full']).norm() / size) for how, grads in found.items()}
    # 11 significant bits, which norms make larger.
    assert errors['scaled'] < 0.01
    assert errors['not scaled'] > 10 * errors['scaled'], errors


def test_finite_differences_are_refused_in_float16() -> None:
    supernet, mutator = built('nasbench201', 'DartsMutator')
    with pytest.raises(ConfigError, match=r"'finite_difference' subtracts .*'float16'"):
        search_over(supernet.float(), mutator.float(), 'finite_difference', autocast='float16')


def small_images() -> list[Any]:
    torch.manual_seed(1)
    return [(images.float(), labels) for images, labels in toy_batches()]


@pytest.mark.parametrize('together', [False, True])
def test_a_step_that_overflows_is_skipped_and_counted(together: bool) -> None:
    """As if its batch were left out; the scale is halved until nothing overflows."""
    options = {'autocast': 'float16', 'single_level': together}
    search = smooth_search(**options, scaler={'init_scale': 2.0**30})
    data, before = small_images(), state_of(search)
    assert search.step(*data) == {'skipped': torch.ones(())}
    assert search.loss_scale.value == 2.0**29
    assert_same_state(state_of(search)['values'], before['values'])
    taken = 1
    while 'skipped' in search.step(*data):
        taken += 1
    assert 1 < taken < 30
    assert (search.skips.total, search.skips.in_a_row) == (taken, 0)
    plain = smooth_search(**options, scaler={'init_scale': search.loss_scale.value})
    plain.step(*data)
    plain.iteration = search.iteration
    if together:  # In two steps the architecture's may be taken where the weights' is not.
        assert_same_state(state_of(search), state_of(plain))


def test_a_scale_that_is_not_at_fault_is_kept() -> None:
    """A loss that is NaN, or a gradient that is not finite though nothing is scaled."""
    search = small_search(scaler={'init_scale': 4.0}, skip_non_finite=1)
    right, search.loss_fn = search.loss_fn, lambda x, y: (x * torch.nan).sum()
    assert [*search.step(*batches())] == ['skipped']
    assert (search.loss_scale.value, search.skips.in_a_row) == (4.0, 1)
    with pytest.raises(NonFiniteLossError, match='2 steps in a row were not finite'):
        search.step(*batches())
    search.loss_fn = lambda x, y: (x - x.detach()).abs().sqrt().sum()
    search.skips.in_a_row = 0
    for _ in range(3):  # To a scale of 1, and one that may be skipped.
        assert [*search.step(*batches())] == ['skipped']
    with pytest.raises(NonFiniteLossError, match=r'2 steps in a row .* is nan in epoch'):
        search.step(*batches())
    assert search.loss_scale.value == 1.0
    search.loss_fn = right
    assert 'loss' in search.step(*batches())


def test_steps_of_the_weights_alone_are_taken_again() -> None:
    search = smooth_search(autocast='float16', scaler={'init_scale': 2.0**30})
    search.step_weights(*small_images())
    assert search.loss_scale.value < 2.0**30
    plain = smooth_search(autocast='float16', scaler={'init_scale': search.loss_scale.value})
    plain.step_weights(*small_images())
    assert_same_state(state_of(search), state_of(plain))


def float16_search(**options: Any) -> Any:
    supernet, mutator = built('nasbench201', 'GDASMutator')
    return search_over(
        supernet.float(), mutator.float(), 'first_order', autocast='float16', **options
    )


def test_it_goes_on_bit_for_bit_with_its_schedule() -> None:
    """Across a step that overflows, one after which the scale grows, and a scheduler."""
    data = images_of(size=8, dtype=torch.float32)
    options = {'scaler': {'init_scale': 2.0**14, 'growth_interval': 1}}
    searches = [float16_search(**options) for _ in range(2)]
    schedules = [
        torch.optim.lr_scheduler.StepLR(search.weight_optimizer, 1, 0.5) for search in searches
    ]
    whole, half = searches
    kept: dict[str, Any] = {}
    torch.manual_seed(1)
    for number in range(12):
        if number == 6:
            kept = copy.deepcopy(
                {'search': whole.state_dict(), 'schedule': schedules[0].state_dict()}
            )
        whole.step(*data)
        schedules[0].step()
    assert whole.skips.total > 0
    torch.rand(5)
    half.load_state_dict(kept['search'])
    schedules[1].load_state_dict(kept['schedule'])
    for _ in range(6):
        half.step(*data)
        schedules[1].step()
    assert_same_state(half.state_dict(), whole.state_dict())
    assert (
        whole.weight_optimizer.param_groups[0]['lr']
        == half.weight_optimizer.param_groups[0]['lr']
        != kept['schedule']['_last_lr'][0]
    )
    assert half.loss_scale.get_extra_state() == whole.loss_scale.get_extra_state()


def test_it_looks_no_more_often_where_nothing_overflows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = small_search(scaler=SMALL)
    search.step(*batches())
    with counted(monkeypatch) as seen:
        search.step(*batches())
    assert seen == ['tolist']


def test_a_scaler_of_ones_own() -> None:
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0, growth_interval=1)
    search = small_search(scaler=scaler)
    search.step(*batches())
    assert scaler.get_scale() == 4.0


@pytest.mark.parametrize(
    ('scaler', 'message'),
    [
        ('x', "`scaler` to be a torch.amp.GradScaler or its options, but got 'x'"),
        (torch.amp.GradScaler('cpu', enabled=False), 'but got one that is not enabled'),
        ({'growth': 2}, r"options of torch.amp.GradScaler, but got \{'growth': 2\}"),
        ({'growth_factor': 0.5}, r"got \{'growth_factor': 0.5\}: The growth factor must"),
        ({'enabled': False}, r"to be enabled, but got \{'enabled': False\}"),
    ],
)
def test_scalers_that_are_none(scaler: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_search(scaler=scaler)


def test_states_that_do_not_fit() -> None:
    with_scale, without = small_search(scaler=SMALL), small_search()
    states = with_scale.state_dict(), without.state_dict()
    with pytest.raises(
        ConfigError, match='without a scaler, as here, but got that of one with'
    ):
        without.load_state_dict(states[0])
    with pytest.raises(
        ConfigError, match='with a scaler, as here, but got that of one without'
    ):
        with_scale.load_state_dict(states[1])
    for change, message in (
        ({'scale': 'x'}, "`loss_scale.scale` .* a number, but got 'x'"),
        ({'scale': float('nan')}, 'above 0, but got nan'),
        ({'scale': float('inf')}, 'above 0, but got inf'),
        ({'growth_factor': 0}, 'above 0, but got 0'),
        (None, '`loss_scale` .* a dict, but got None'),
    ):
        broken = copy.deepcopy(states[0])
        broken['loss_scale'] = change and {**broken['loss_scale'], **change}
        with pytest.raises(ConfigError, match=message):
            with_scale.load_state_dict(broken)
    del states[0]['loss_scale']['_growth_tracker']
    with pytest.raises(ConfigError, match="to have '_growth_tracker'"):
        with_scale.load_state_dict(states[0])


@pytest.mark.parametrize(
    'name', ['OperationFreezing', 'HessianEarlyStopping', 'AdversarialPerturbation']
)
def test_extensions_with_gradients_of_their_own_are_refused(name: str) -> None:
    mutator = mm.build_mutator({'type': 'DartsMutator', 'extensions': [{'type': name}]})
    assert loss_scale_for(None, 'bfloat16', mutator) is None
    with pytest.raises(ConfigError, match=f'{name} takes gradients of its own'):
        loss_scale_for(None, 'float16', mutator)


def test_a_state_that_comes_before_its_device_is_known() -> None:
    scale = LossScale(SMALL)
    scale.set_extra_state({**scale.get_extra_state(), 'scale': 2.0})
    assert scale.get_extra_state()['scale'] == 2.0
    assert float(scale.factor(torch.device('cpu'))) == 2.0


def test_a_model_with_a_scale_holds_tensors_alone() -> None:
    space = {'type': 'NasBench201Supernet', 'in_channels': 1, 'num_classes': 3}
    config = {
        'type': 'Darts',
        'architecture': {**space, 'base_channels': 4, 'num_cells': 1},
        'mutator': {'type': 'DartsMutator'},
        'autocast': 'float16',
    }
    first, second, old = (mm.build_algorithm(copy.deepcopy(config)) for _ in range(3))
    first.loss_scale.lower()
    state = first.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    second.load_state_dict(state)
    assert second.loss_scale.value == first.loss_scale.value == 2.0**15
    # As checkpoints hold it that were written before.
    state['loss_scale._extra_state'] = first.loss_scale.get_extra_state()
    old.load_state_dict(state)
    assert old.loss_scale.value == 2.0**15
