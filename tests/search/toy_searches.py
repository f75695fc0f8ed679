"""A small smooth supernet in float64, and searches over it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm

HYPERGRADIENTS = sorted(mm.HYPERGRADIENTS.module_dict)

Batch = tuple[Tensor, Tensor]


class ToySupernet(nn.Module):
    """Images ``(N, 2, 5, 5)`` to three logits, by way of two spaces and three mutables.

    Space ``down`` halves the size and changes the channels, space ``same`` is
    shared by two mutables.  Nothing in it has a kink.

    Args:
        dropout: Rate of a dropout before the classifier.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3))
        self.down = mm.DifferentiableOP(
            space_id='down',
            choices={
                'conv': nn.Sequential(
                    nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.Softplus()
                ),
                'pool': nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(3, 4, 1)),
            },
        )
        self.same = nn.Sequential(*(_same_size() for _ in range(2)))
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.same(self.down(self.stem(images).tanh()))
        return self.head(self.drop(features.mean((2, 3))))


def _same_size() -> nn.Module:
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    return mm.DifferentiableOP(
        space_id='same',
        choices={
            'conv': nn.Sequential(conv, nn.BatchNorm2d(4), nn.Softplus()),
            'tanh': nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh()),
            'skip': nn.Identity(),
        },
    )


def toy_batches(number: int = 2, size: int = 6) -> list[Batch]:
    """Draw batches of images and labels."""
    return [
        (torch.randn(size, 2, 5, 5, dtype=torch.float64), torch.randint(3, (size,)))
        for _ in range(number)
    ]


def toy_search(
    hypergradient: Any = 'first_order',
    mutator: Any = 'DartsMutator',
    weight_optimizer: Any = torch.optim.SGD,
    supernet: nn.Module | None = None,
    loss_fn: Any = nn.functional.cross_entropy,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Return a search whose architecture parameters are well away from zero."""
    torch.manual_seed(seed)
    supernet = ToySupernet() if supernet is None else supernet
    if isinstance(mutator, str):
        mutator = mm.build_mutator({'type': mutator})
    mutator.prepare_from_supernet(supernet)
    supernet.double()
    mutator.double()
    for arch_param in mutator.arch_params.values():
        nn.init.normal_(arch_param)
    if options is None:
        options = {'lr': 0.1}
        if weight_optimizer is torch.optim.SGD:
            options.update(momentum=0.9, weight_decay=0.01)
    return mm.BilevelSearch(
        supernet,
        mutator,
        loss_fn,
        weight_optimizer(supernet.parameters(), **options),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.05, betas=(0.5, 0.999)),
        hypergradient,
        **kwargs,
    )


class SpoiltLoss:
    """Cross entropy that does something else in chosen calls.

    Attributes:
        calls: How often it was called.
        spoil: ``{number of the call: function of the loss}``.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.spoil: dict[int, Any] = {}

    def __call__(self, outputs: Tensor, targets: Tensor) -> Any:
        loss = nn.functional.cross_entropy(outputs, targets)
        spoil = self.spoil.get(self.calls, lambda loss: loss)
        self.calls += 1
        return spoil(loss)


def twin_of(search: Any) -> Any:
    """Return a copy that goes its own way."""
    return copy.deepcopy(search)


def state_of(search: Any) -> dict[str, Any]:
    """Return copies of all that a step may touch."""
    params = {**dict(search.supernet.named_parameters()), **dict(search.mutator.arch_params)}
    return {
        'values': {name: param.detach().clone() for name, param in params.items()},
        'grads': {
            name: None if param.grad is None else param.grad.clone()
            for name, param in params.items()
        },
        'buffers': {name: b.clone() for name, b in search.supernet.named_buffers()},
        'flags': {name: param.requires_grad for name, param in params.items()},
        'modes': [module.training for module in search.supernet.modules()],
        'optimizers': copy.deepcopy(
            [search.weight_optimizer.state_dict(), search.arch_optimizer.state_dict()]
        ),
        'iteration': search.iteration,
    }


def assert_same_state(
    actual: Any, expected: Any, where: str = 'state', **tolerance: float
) -> None:
    """Compare nested states; bit for bit unless a tolerance is given."""
    if isinstance(expected, Tensor):
        tolerance = tolerance or {'rtol': 0.0, 'atol': 0.0}
        assert_close(actual, expected, msg=lambda text: f'{where}: {text}', **tolerance)
    elif isinstance(expected, dict):
        assert list(actual) == list(expected), where
        for key in expected:
            assert_same_state(actual[key], expected[key], f'{where}.{key}', **tolerance)
    elif isinstance(expected, list):
        assert len(actual) == len(expected), where
        for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
            assert_same_state(a, e, f'{where}[{i}]', **tolerance)
    else:
        assert actual == expected, where
