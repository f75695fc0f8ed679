"""``mutator.mixing``: weights that come from outside of the binding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import toys
from torch import Tensor
from torch.func import functional_call, grad
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import InputError, SearchSpaceError
from mmrazor_mutators.typing import Mixture

learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 3, dtype=torch.float64)


def one_hot(mutator: Any, subnet: Any) -> dict[str, Tensor]:
    """Weights that choose what a subnet chooses; anything where it has no say."""
    weights = {}
    for space_id, logits in mutator.arch_params.items():
        names = mutator.search_spaces[space_id]['choice_names']
        chosen = subnet.get(space_id, {'chosen': names[1:2]})['chosen']
        weights[space_id] = torch.tensor([float(n in chosen) for n in names]).to(logits)
    return weights


def test_one_hot_weights_are_the_exported_network(learning: str, x: Tensor) -> None:
    supernet, mutator = toys.prepared(learning, toys.ToySupernet(node_has_param=True))
    supernet.eval()
    before = toys.run(supernet, x)
    for seed in range(3):
        subnet = mutator.random_subnet(seed)
        net = mutator.export_subnet(supernet, subnet)
        with mutator.mixing(one_hot(mutator, subnet)):
            assert_close(supernet(x), net(x))
            assert_close(supernet.backbone(x), net.backbone(x))
    assert_close(toys.run(supernet, x), before, rtol=0, atol=0)


def test_given_weights_replace_those_of_their_space_alone(learning: str, x: Tensor) -> None:
    supernet, mutator = toys.prepared(learning)
    given = torch.randn(4, dtype=torch.float64)
    with mutator.mixing({'shared': given}):
        out = toys.run(supernet, x)
    mixtures = {**toys.naive_mixtures(mutator), 'shared': Mixture(given)}
    assert_close(out, toys.naive_forward(supernet, x, mixtures))


def test_given_paths_run_alone(x: Tensor) -> None:
    supernet, mutator = toys.prepared('DartsMutator')
    weights = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    ran = []
    for name, choice in supernet.backbone.widen.choices.items():
        choice.register_forward_hook(lambda *_, name=name: ran.append(name))
    with mutator.mixing({'widen': Mixture(weights, paths=(1,))}):
        out = toys.run(supernet, x)
    assert ran == ['linear']
    mixtures = {**toys.naive_mixtures(mutator), 'widen': Mixture(weights)}
    assert_close(out, toys.naive_forward(supernet, x, mixtures))


def test_blocks_nest_and_end_with_an_error(x: Tensor) -> None:
    supernet, mutator = toys.prepared('DartsMutator', toys.UnitSupernet())
    relaxed = [w.detach() for w in supernet(x)]
    one, two = torch.eye(3, dtype=torch.float64)[:2]

    def seen() -> list[Tensor]:
        first, second, other = supernet(x)
        assert_close(first, second, rtol=0, atol=0)
        return [first, other]

    with mutator.mixing({'a': one}):
        assert_close(seen(), [one, relaxed[2]])
        with mutator.mixing({'a': two, 'b': one}):
            assert_close(seen(), [two, one])
        with mutator.mixing({'b': two}):
            assert_close(seen(), [one, two])
            assert_close(supernet.other(x), two)  # A mutable by itself sees them too.
        with pytest.raises(TypeError), mutator.mixing({'b': two}):
            supernet()
        assert_close(seen(), [one, relaxed[2]])
    assert_close(seen(), [relaxed[0], relaxed[2]])


def test_weights_get_gradients(x: Tensor) -> None:
    supernet, mutator = toys.prepared()
    given = toys.naive_mixtures(mutator)
    leaves = {k: m.weights.detach().requires_grad_() for k, m in given.items()}
    with mutator.mixing(leaves):
        out = supernet(x)
    expected = toys.naive_forward(supernet, x, {k: Mixture(w) for k, w in leaves.items()})
    of_out, of_expected = (
        torch.autograd.grad(y.square().sum(), [*leaves.values()]) for y in (out, expected)
    )
    assert_close(of_out, of_expected)


def test_functional_transforms_reach_weights_and_logits(learning: str, x: Tensor) -> None:
    supernet, mutator = toys.prepared(learning)
    supernet.eval()
    given = {k: m.weights.detach() for k, m in toys.naive_mixtures(mutator).items()}
    parameters = {k: torch.randn_like(p) for k, p in supernet.named_parameters()}

    def loss(parameters: dict[str, Tensor], weights: dict[str, Tensor]) -> Tensor:
        with mutator.mixing(weights):
            return functional_call(supernet, parameters, x).square().sum()

    of_parameters, of_weights = grad(loss, argnums=(0, 1))(parameters, given)
    with torch.no_grad():
        for key, parameter in supernet.named_parameters():
            parameter.copy_(parameters[key])
    leaves = {k: w.clone().requires_grad_() for k, w in given.items()}
    expected = toys.naive_forward(supernet, x, {k: Mixture(w) for k, w in leaves.items()})
    expected.square().sum().backward()
    assert_close(of_weights, {k: leaf.grad for k, leaf in leaves.items()})
    assert_close(of_parameters, {k: p.grad for k, p in supernet.named_parameters()})


@pytest.mark.parametrize(
    ('weights', 'error', 'message'),
    [
        ({'sharde': torch.ones(4)}, SearchSpaceError, "'sharde'.*mean 'shared'"),
        ({'node': torch.ones(3)}, SearchSpaceError, "no architecture parameter .*'node'"),
        ({'shared': torch.ones(3)}, InputError, r"'shared'.*\(4,\), but got \(3,\)"),
        ({'shared': Mixture(torch.ones(1, 4))}, InputError, r'\(4,\), but got \(1, 4\)'),
    ],
)
def test_errors(weights: Any, error: type[Exception], message: str, x: Tensor) -> None:
    supernet, mutator = toys.prepared()
    before = toys.run(supernet, x)
    with pytest.raises(error, match=message), mutator.mixing(weights):
        pytest.fail('nothing should be mixed')
    assert_close(toys.run(supernet, x), before, rtol=0, atol=0)


def test_weights_as_a_list(x: Tensor) -> None:
    supernet, mutator = toys.prepared('DartsMutator', toys.UnitSupernet())
    given = mutator.mixing({'a': [1.0, 0.0, 0.0]})
    with pytest.raises(mm.NASError, match=r"'a'.*\[1\.0, 0\.0, 0\.0\]"), given:
        supernet(x)
