"""A template: copy it to test a mutator of your own, and put your formula in three places.

As it stands it tests ``DartsMutator``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm

# 1. The config of your mutator.
MUTATOR = {'type': 'DartsMutator'}

LOGITS = torch.tensor([0.4, -1.2, 0.9], dtype=torch.float64)


def expected_weights(logits: Tensor) -> Tensor:
    """2. Your formula, written down once more without the library."""
    powers = [2.718281828459045 ** float(value) for value in logits]
    return torch.tensor(powers, dtype=torch.float64) / sum(powers)


def expected_choice(logits: Tensor) -> str:
    """3. Your rule for reading the choice off."""
    return 'abc'[int(logits.argmax())]


def prepared() -> tuple[nn.Module, mm.DartsMutator]:
    torch.manual_seed(0)
    choices = {name: nn.Linear(4, 2) for name in 'abc'}
    supernet = mm.DifferentiableOP(space_id='op', choices=choices).double()
    mutator = mm.build_mutator(MUTATOR)
    mutator.prepare_from_supernet(supernet)
    mutator.double()
    with torch.no_grad():
        mutator.arch_params['op'].copy_(LOGITS)
    return supernet, mutator


def test_weights() -> None:
    _, mutator = prepared()
    assert_close(mutator.relax(mutator.arch_params['op']).detach(), expected_weights(LOGITS))


def test_the_mixture_is_the_weighted_sum() -> None:
    supernet, _ = prepared()
    x = torch.randn(5, 4, dtype=torch.float64)
    weights = expected_weights(LOGITS)
    outputs = [choice(x) for choice in supernet.choices.values()]
    assert_close(supernet(x), sum(w * y for w, y in zip(weights, outputs, strict=True)))


def test_gradient_against_differences() -> None:
    """Only for a deterministic relaxation; compare expectations for a random one."""
    _, mutator = prepared()
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(mutator.relax, logits)


def test_the_choice() -> None:
    supernet, mutator = prepared()
    subnet = mutator.search_subnet()
    assert subnet['op']['chosen'] == [expected_choice(LOGITS)]
    x = torch.randn(5, 4, dtype=torch.float64)
    net = mutator.export_subnet(supernet, subnet)
    assert_close(net(x), supernet.choices[expected_choice(LOGITS)](x))


def test_schedule() -> None:
    _, mutator = prepared()
    for epoch in (0, 5, 9):
        mutator.on_epoch(epoch, max_epochs=10)
        assert mutator.epoch == epoch
