"""Searches that are set up wrongly say so before they begin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_searches import toy_batches, toy_search

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, UnknownTypeError


def test_an_optimizer_whose_step_cannot_be_differentiated() -> None:
    search = toy_search('exact', weight_optimizer=torch.optim.Adafactor, options={})
    with pytest.raises(ConfigError, match='which Adafactor does not support'):
        search.step(*toy_batches())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'grad_clip': 0}, '`grad_clip` to be above 0 or None, but got 0'),
        ({'grad_clip': -1.5}, '`grad_clip` to be above 0 or None, but got -1.5'),
        ({'grad_clip': float('nan')}, '`grad_clip` to be above 0 or None, but got nan'),
        ({'arch_interval': 0}, '`arch_interval` to be an int of at least 1, but got 0'),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        toy_search(**options)


def test_an_unknown_hypergradient() -> None:
    with pytest.raises(
        UnknownTypeError, match=r"'second_order'.*Known: cg, exact, finite_diff"
    ):
        toy_search('second_order')
    with pytest.raises(ConfigError, match="Neumann takes no argument 'terms'"):
        toy_search({'type': 'neumann', 'terms': 3})


def test_optimizers_that_do_not_fit() -> None:
    search = toy_search()
    supernet, mutator = search.supernet, search.mutator
    weights, alphas = list(supernet.parameters()), list(mutator.arch_params.values())

    def build(
        over_weights: list[Tensor], over_alphas: list[Tensor], owner: Any = mutator
    ) -> None:
        optimizers = [torch.optim.SGD(ps, lr=0.1) for ps in (over_weights, over_alphas)]
        mm.BilevelSearch(supernet, owner, nn.functional.cross_entropy, *optimizers)

    build(weights, alphas)
    with pytest.raises(
        ConfigError, match='architecture parameter of the mutator, but it lacks same;'
    ):
        build(weights, alphas[:1])
    with pytest.raises(ConfigError, match=r'lacks down, same; call mutator\.prepare_from'):
        build(weights, [alpha.detach().clone() for alpha in alphas])
    with pytest.raises(ConfigError, match=r'lacks them \(there are none\); call'):
        build(weights, alphas, mm.DartsMutator())
    with pytest.raises(
        ConfigError, match=r'weights only, but .* parameters of down, same as well'
    ):
        build([*weights, *alphas], alphas)
    with pytest.raises(ConfigError, match='arch_optimizer'):
        build(weights, [*alphas, *weights[:1]])


def test_a_weight_optimizer_from_before_the_candidates_were_there() -> None:
    """It would leave every candidate as it was initialised, without a word."""
    cfg = {'type': 'NasBench201Supernet', 'in_channels': 2, 'num_classes': 3, 'num_cells': 1}
    supernet = mm.build_architecture(cfg)
    weight_optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1)
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    arch_optimizer = torch.optim.Adam(mutator.arch_params.values())
    with pytest.raises(ConfigError, match='weight_optimizer'):
        mm.BilevelSearch(
            supernet, mutator, nn.functional.cross_entropy, weight_optimizer, arch_optimizer
        )


def test_an_interval_that_is_no_number_of_steps() -> None:
    for interval in (1.5, '2'):
        with pytest.raises(ConfigError, match=f'int of at least 1, but got {interval!r}'):
            toy_search(arch_interval=interval)


def test_a_loss_of_none_of_the_held_weights() -> None:
    """Nothing is stepped, and nothing breaks."""
    search = toy_search()
    before = [weight.detach().clone() for weight in search.weights]
    scale = nn.Parameter(torch.ones(()).double())
    search.compute_loss = lambda batch: 2 * scale
    search.arch_interval, search.iteration = 2, 1  # No architecture step is due.
    logs = search.step(toy_batches()[0])
    torch.testing.assert_close(logs['loss'], torch.tensor(2.0).double())
    for weight, value in zip(search.weights, before, strict=True):
        assert weight.grad is None
        torch.testing.assert_close(weight.detach(), value, rtol=0, atol=0)
