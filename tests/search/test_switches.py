"""Whatever makes a search step fast changes nothing that it computes, alone or together.

The reference is a plain loop that knows nothing of the library (benchmarks/naive_searches.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mmrazor_mutators as mm
from mmrazor_mutators.kernels import graph_nodes, native
from mmrazor_mutators.mutables import mixing
from mmrazor_mutators.ops import DartsZero, NasBench201Zero
from mmrazor_mutators.search import bilevel
from mmrazor_mutators.search.hypergradients import first_order
from mmrazor_mutators.sharing import Begun

CLIP = 0.7
SPACES: dict[str, dict[str, Any]] = {
    'darts': {'type': 'DartsSupernet', 'base_channels': 4, 'num_layers': 3, 'num_nodes': 2},
    'nasbench201': {'type': 'NasBench201Supernet', 'base_channels': 4, 'num_cells': 1},
}


class Switch(NamedTuple):
    """Something that makes a step faster or smaller, and how to turn it on or off.

    Attributes:
        options: Of the search, when it is on.
        off: Those when it is off.
        patch: Turns it off where there is no option, until the test is over.
    """

    options: dict[str, Any] = {}
    off: dict[str, Any] = {}
    patch: Callable[[pytest.MonkeyPatch], None] = lambda patch: None


def begin_alone(module: Any, x: Tensor) -> Begun:
    return Begun(x, shares=False)


def run_zeros(patch: pytest.MonkeyPatch) -> None:
    for kind in (DartsZero, NasBench201Zero):
        patch.setattr(kind, 'is_zero', False)


@contextmanager
def nothing_is_frozen(params: Any) -> Iterator[None]:
    yield


def build_every_graph(patch: pytest.MonkeyPatch) -> None:
    for module in (bilevel, first_order):
        patch.setattr(module, 'frozen', nothing_is_frozen)


# One line each; what is off by default is on in its own test and with all others.
SWITCHES = {
    'channels_last': Switch({'channels_last': True}, {'channels_last': False}),
    'checkpoint_cells': Switch({'checkpoint_cells': True}),
    # All but the generation of code, which tests/search/test_compilation.py has.
    'compile': Switch({'compile': {'backend': 'aot_eager'}}),
    'fused_sum': Switch(
        patch=lambda patch: patch.setattr(mixing, 'is_plain', lambda *_: False)
    ),
    'mixed_edge': Switch(patch=lambda patch: patch.setattr(mixing, '_terms', lambda *_: {})),
    # Where they were not built, there is nothing to turn off.
    'native_kernels': Switch(patch=lambda patch: patch.setattr(native, '_library', None)),
    'own_nodes': Switch(patch=lambda patch: patch.setattr(graph_nodes, '_DTYPES', set())),
    'restricted_gradients': Switch(patch=build_every_graph),
    'shared_work': Switch(patch=lambda patch: patch.setattr(mixing, 'begin', begin_alone)),
    'skipped_zeros': Switch(patch=run_zeros),
}


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [
        (
            torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=generator),
            torch.randint(10, (4,), generator=generator),
        )
        for _ in range(3)
    ]


def reference_of(space: str) -> Any:
    from benchmarks import naive_searches as naive

    torch.manual_seed(0)
    if space == 'darts':
        return naive.NaiveDarts(4, 3, 2).double()
    return naive.NaiveNasBench201(4, 1).double()


def weights_of(reference: Any) -> list[Tensor]:
    alphas = {id(alpha) for alpha in reference.alphas}
    return [p for p in reference.parameters() if id(p) not in alphas]


def begin(network: Any, alphas: Any, training: bool) -> None:
    """Give logits different values, and running statistics some batches."""
    torch.manual_seed(1)
    with torch.no_grad():
        for alpha in alphas:
            alpha.copy_(torch.randn(alpha.shape, dtype=torch.float64))
        for _ in range(2):
            network.train()(batches()[2][0])
    network.train(training)


def optimizers(weights: Any, alphas: Any) -> tuple[Any, Any]:
    return (
        torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=3e-4),
        torch.optim.Adam(alphas, lr=0.02, betas=(0.5, 0.999), weight_decay=1e-3),
    )


@lru_cache
def naive_results(space: str, training: bool, steps: int = 1) -> list[Tensor]:
    """Take the steps of a plain loop."""
    reference = reference_of(space)
    begin(reference, reference.alphas, training)
    weights, alphas = weights_of(reference), list(reference.alphas)
    of_weights, of_alphas = optimizers(weights, alphas)
    train, arch, other = batches()
    found = [reference(other[0]).detach()]
    for _ in range(steps):
        of_alphas.zero_grad()
        arch_loss = F.cross_entropy(reference(arch[0]), arch[1])
        arch_loss.backward()
        of_alphas.step()
        found += [arch_loss.detach(), *(row for alpha in alphas for row in alpha.grad.clone())]
        of_weights.zero_grad()
        loss = F.cross_entropy(reference(train[0]), train[1])
        loss.backward()
        nn.utils.clip_grad_norm_(weights, CLIP)
        of_weights.step()
        found += [loss.detach(), *(w.grad.clone() for w in weights)]
    return [*found, reference.eval()(other[0]).detach()]


def library_results(
    space: str, training: bool, options: dict[str, Any], steps: int = 1
) -> list[Tensor]:
    """Take the same steps with the library."""
    reference = reference_of(space)
    cfg = {**SPACES[space], 'in_channels': 3, 'num_classes': 10}
    supernet, mutator = mm.build_architecture(cfg), mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    supernet.double()
    mutator.double()
    with torch.no_grad():
        for mine, value in zip(supernet.parameters(), weights_of(reference), strict=True):
            mine.copy_(value)
    # Normal cells first, as in the reference.
    names = sorted(mutator.arch_params, key=lambda name: name.startswith('reduce'))
    logits = [mutator.arch_params[name] for name in names]
    rows = [row for alpha in reference.alphas for row in alpha.detach()]
    begin(reference, reference.alphas, training)
    with torch.no_grad():
        for mine, row in zip(logits, rows, strict=True):
            mine.copy_(row)
        for _ in range(2):
            supernet(batches()[2][0])
    supernet.train(training)
    train, arch, other = batches()
    search = mm.BilevelSearch(
        supernet,
        mutator,
        F.cross_entropy,
        *optimizers(list(supernet.parameters()), logits),
        **{'grad_clip': CLIP, **options},
    )
    found = [supernet(other[0]).detach()]
    for _ in range(steps):
        logs = search.step(train, arch)
        found += [logs['arch_loss'], *(logit.grad.clone() for logit in logits)]
        found += [logs['loss'], *(p.grad.clone() for p in supernet.parameters())]
    return [*found, supernet.eval()(other[0]).detach()]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    # Some gradients are 0 but for rounding: that of what a norm takes away.
    for mine, naive in zip(found, expected, strict=True):
        assert (mine - naive).abs().max() <= 1e-12 * naive.abs().max() + 1e-14


spaces = pytest.mark.parametrize('space', SPACES)
modes = pytest.mark.parametrize('training', [True, False], ids=['training', 'eval'])


def test_the_reference_is_sensitive() -> None:
    """What is compared below differs where something is wrong."""
    expected = naive_results('darts', True)
    assert all(value.isfinite().all() for value in expected)
    for spoilt in ({'grad_clip': 1.4 * CLIP}, {'arch_start_epoch': 1}):
        with pytest.raises((AssertionError, KeyError)):
            assert_equal(library_results('darts', True, spoilt), expected)


@modes
@pytest.mark.parametrize(
    ('name', 'space'),
    [
        # Compiling takes long; what is compiled has tests of its own.
        pytest.param(name, space, marks=[pytest.mark.slow] * takes_long)
        for space in SPACES
        for name in [*SWITCHES, 'all', 'none']
        for takes_long in [name in ('all', 'compile')]
    ],
)
def test_a_step_is_the_plain_one(
    name: str, space: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One switch is on and every other one off, or all of them are on, or none."""
    options: dict[str, Any] = {}
    for other, switch in SWITCHES.items():
        if name in (other, 'all'):
            options.update(switch.options)
        else:
            options.update(switch.off)
            switch.patch(monkeypatch)
    steps = 2 if name == 'all' else 1
    found = library_results(space, training, options, steps)
    assert_equal(found, naive_results(space, training, steps))
