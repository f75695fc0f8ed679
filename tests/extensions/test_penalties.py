"""Penalties on the architecture: their values, gradients and schedules."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import toys
from torch import Tensor
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, SearchSpaceError
from mmrazor_mutators.extensions import (
    BetaDecay,
    EntropyRegularizer,
    L1Regularizer,
    L2Regularizer,
    Regularizer,
)
from mmrazor_mutators.functional import (
    absolute_sum,
    choice_entropy,
    half_squared_norm,
    log_partition,
)


def naive_rows(function: Any, rows: Tensor) -> Tensor:
    return torch.tensor([function(row) for row in rows.tolist()], dtype=torch.float64)


def test_functions_are_their_formulas() -> None:
    rows = 3 * torch.randn(5, 4, dtype=torch.float64)
    assert_close(
        log_partition(rows), naive_rows(lambda r: math.log(sum(map(math.exp, r))), rows)
    )
    assert_close(half_squared_norm(rows), naive_rows(lambda r: sum(a * a for a in r) / 2, rows))
    assert_close(absolute_sum(rows), naive_rows(lambda r: sum(map(abs, r)), rows))
    scores = torch.rand(5, 4, dtype=torch.float64)

    def entropy(row: list[float]) -> float:
        return -sum(p / sum(row) * math.log(p / sum(row)) for p in row)

    assert_close(choice_entropy(scores), naive_rows(entropy, scores))
    assert_close(choice_entropy(torch.ones(3, 8)), torch.full((3,), math.log(8)))


@pytest.mark.parametrize(
    'function', [log_partition, half_squared_norm, absolute_sum, lambda x: choice_entropy(x**2)]
)
def test_functions_have_their_derivatives(function: Any) -> None:
    rows = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, rows)
    assert torch.autograd.gradgradcheck(function, rows)


def test_the_log_partition_does_not_overflow() -> None:
    assert_close(
        log_partition(torch.tensor([1000.0, 1000.0])), torch.tensor(1000 + math.log(2))
    )


def test_the_entropy_has_a_gradient_where_a_choice_has_no_weight() -> None:
    logits = torch.tensor([0.0, -200.0, 0.5], requires_grad=True)
    probs = logits.softmax(-1)
    assert probs[1] == 0
    (gradient,) = torch.autograd.grad(choice_entropy(probs), logits)
    two = logits.detach()[[0, 2]].requires_grad_()
    (expected,) = torch.autograd.grad(choice_entropy(two.softmax(-1)), two)
    assert gradient[1] == 0
    assert_close(gradient[[0, 2]], expected)


def with_penalty(extension: Any, **kwargs: Any) -> Any:
    return toys.prepared(
        'DartsMutator', toys.ToySupernet(node_has_param=True), extensions=[extension], **kwargs
    )[1]


def weights_over(extension: Any, max_epochs: int, *epochs: int) -> list[float]:
    weights = []
    for epoch in epochs:
        extension.on_epoch(epoch, max_epochs)
        weights.append(extension.weight)
    return weights


def test_beta_decay_is_the_weighted_mean_over_the_spaces() -> None:
    decay = BetaDecay(max_weight=50.0)
    mutator = with_penalty(decay)
    assert decay.penalty(mutator) is None  # Its weight is 0 in the first epoch.
    mutator.on_epoch(20, max_epochs=100)
    logits = list(mutator.arch_params.values())
    assert sorted(map(len, logits)) == [3, 4, 4, 4, 4, 4]
    mean = sum(math.log(sum(map(math.exp, each.tolist()))) for each in logits) / len(logits)
    penalty = mutator.regularization()
    assert_close(penalty, torch.tensor(10 * mean, dtype=torch.float64))
    for each, gradient in zip(logits, torch.autograd.grad(penalty, logits), strict=True):
        assert_close(gradient, 10 / len(logits) * each.softmax(-1).detach())


def test_the_weight_of_beta_decay_grows_as_in_the_authors_code() -> None:
    # 50 * epoch / 100: in the 100 epochs on NAS-Bench-201, and the 50 on the DARTS space.
    assert weights_over(BetaDecay(50.0), 100, 0, 50, 99) == [0.0, 25.0, 49.5]
    assert weights_over(BetaDecay(25.0), 50, 0, 25, 49) == [50 * e / 100 for e in (0, 25, 49)]
    assert weights_over(BetaDecay(3.0, 1.0), 4, 0, 1, 3) == [1.0, 1.5, 2.5]
    assert weights_over(BetaDecay(3.0, 1.0), 1, 0) == [1.0]


def test_a_regularizer_goes_from_start_to_end() -> None:
    assert weights_over(L2Regularizer(0.5), 5, 0, 2, 4) == [0.5, 0.5, 0.5]
    assert weights_over(L2Regularizer(start=0.0, end=2.0), 5, 0, 2, 4) == [0.0, 1.0, 2.0]
    assert weights_over(L2Regularizer(4.0, end=2.0), 5, 0, 2, 4) == [4.0, 3.0, 2.0]
    assert weights_over(EntropyRegularizer(start=-1.0, end=1.0), 3, 0, 1, 2) == [-1, 0, 1]


@pytest.mark.parametrize('cls', [EntropyRegularizer, L1Regularizer, L2Regularizer])
def test_regularizers_are_their_formulas(cls: type) -> None:
    mutator = with_penalty(cls(weight=0.7))
    rows = [each.tolist() for each in mutator.arch_params.values()]

    def entropy(row: list[float]) -> float:
        total = sum(map(math.exp, row))
        return -sum(math.exp(a) / total * math.log(math.exp(a) / total) for a in row)

    expected = {
        EntropyRegularizer: sum(map(entropy, rows)) / len(rows),
        L1Regularizer: sum(abs(a) for row in rows for a in row),
        L2Regularizer: sum(a * a for row in rows for a in row) / 2,
    }[cls]
    loss = torch.tensor(2.0, dtype=torch.float64)
    penalty = mutator.arch_objective(loss) - loss
    assert_close(penalty, torch.tensor(0.7 * expected, dtype=torch.float64))
    gradients = torch.autograd.grad(penalty, list(mutator.arch_params.values()))
    assert all(gradient.any() for gradient in gradients)


def test_l2_is_the_weight_decay_of_adam() -> None:
    runs = []
    for decay, extension in ((0.1, L2Regularizer(0.0)), (0.0, L2Regularizer(0.1))):
        torch.manual_seed(0)
        mutator = with_penalty(extension)
        optimizer = torch.optim.Adam(mutator.arch_params.values(), lr=0.05, weight_decay=decay)
        for step in range(5):
            loss = sum((p - step).sin().sum() for p in mutator.arch_params.values())
            optimizer.zero_grad()
            mutator.arch_objective(loss).backward()
            optimizer.step()
        runs.append(dict(mutator.arch_params))
    assert_close(*runs)


def test_a_positive_entropy_weight_decides_and_a_negative_one_keeps_open() -> None:
    for weight, sign in ((1.0, -1), (-1.0, 1)):
        mutator = with_penalty(EntropyRegularizer(weight))
        before = [choice_entropy(p.softmax(-1)) for p in mutator.arch_params.values()]
        optimizer = torch.optim.SGD(mutator.arch_params.values(), lr=0.5)
        for _ in range(20):
            optimizer.zero_grad()
            mutator.regularization().backward()
            optimizer.step()
        after = [choice_entropy(p.softmax(-1)) for p in mutator.arch_params.values()]
        assert all(sign * (a - b) > 0 for a, b in zip(after, before, strict=True))


def test_the_entropy_is_that_of_the_mutators_own_scores() -> None:
    class Sigmoid(mm.DartsMutator):
        def choice_probs(self, arch_param: Tensor) -> Tensor:
            return arch_param.sigmoid()

    extension = EntropyRegularizer(1.0)
    _, mutator = toys.prepared(Sigmoid, extensions=[extension])
    each = [p.sigmoid() / p.sigmoid().sum() for p in mutator.arch_params.values()]
    expected = sum(-(p * p.log()).sum() for p in each) / len(each)
    assert_close(mutator.regularization(), expected)


@pytest.mark.parametrize(
    'extension',
    [BetaDecay(min_weight=1.0), *(cls(1.0) for cls in (EntropyRegularizer, L1Regularizer))],
)
def test_dropped_choices_do_not_count(extension: Any) -> None:
    mutator = with_penalty(extension)
    mutator.drop_choices('widen', ['norm'])
    before = mutator.regularization().detach()
    (gradient,) = torch.autograd.grad(mutator.regularization(), mutator.arch_params['widen'])
    assert gradient[2] == 0
    assert gradient[[0, 1, 3]].all()
    with torch.no_grad():
        mutator.arch_params['widen'][2] = 100.0
    assert_close(mutator.regularization(), before, rtol=0, atol=0)
    with torch.no_grad():
        mutator.arch_params['widen'][1] += 1.0
    assert mutator.regularization() != before


def test_there_is_no_penalty_without_spaces_or_weight() -> None:
    for extension in (BetaDecay(1.0, 1.0), L1Regularizer(1.0), EntropyRegularizer(1.0)):
        mutator = mm.DartsMutator(extensions=[extension])
        assert extension.penalty(mutator) is None
        assert mutator.regularization() == 0
    extension = L1Regularizer(0.0)
    assert extension.penalty(with_penalty(extension)) is None


def test_the_weights_of_the_supernet_feel_nothing() -> None:
    supernet, mutator = toys.prepared(extensions=[L2Regularizer(1.0)])
    mutator.regularization().backward()
    assert all(weight.grad is None for weight in supernet.parameters())


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r'`max_weight` .* number of at least 0, but got -1'):
        BetaDecay(max_weight=-1)
    with pytest.raises(ConfigError, match=r'`min_weight` .* of at least 0, but got nan'):
        BetaDecay(min_weight=math.nan)
    for cls in (L1Regularizer, L2Regularizer):
        with pytest.raises(ConfigError, match=r'`end` .* of at least 0, but got -0\.1'):
            cls(end=-0.1)
        with pytest.raises(ConfigError, match=r"`weight` .* but got 'large'"):
            cls(weight='large')
    with pytest.raises(ConfigError, match=r'`start` to be a finite number, but got inf'):
        EntropyRegularizer(start=math.inf)
    with pytest.raises(ConfigError, match=r'`weight` .* but got True'):
        EntropyRegularizer(weight=True)
    with pytest.raises(TypeError, match='abstract'):
        Regularizer()
    assert BetaDecay(0, 0).weight == L1Regularizer(0).weight == 0


class Unrated(mm.DifferentiableMutator):
    """A mutator that does not rate choices."""

    def search_subnet(self) -> Any:
        raise SearchSpaceError('nothing is rated here')


def test_the_entropy_needs_scores() -> None:
    supernet = toys.ToySupernet()
    text = r'EntropyRegularizer compares choices by `choice_probs`, which Unrated lacks'
    with pytest.raises(ConfigError, match=text):
        Unrated(extensions=[EntropyRegularizer()]).prepare_from_supernet(supernet)
    Unrated(extensions=[BetaDecay(), L1Regularizer()]).prepare_from_supernet(supernet)


@pytest.mark.parametrize(
    'name', ['BetaDecay', 'L1Regularizer', 'L2Regularizer', 'ThresholdPruning']
)
def test_what_needs_logits_refuses_probabilities(name: str) -> None:
    cfg = {'type': name, **({'weight': 1.0} if name.endswith('Regularizer') else {})}
    mutator = mm.build_mutator({'type': 'GAEAMutator', 'extensions': [cfg]})
    supernet = mm.DifferentiableOP(space_id='a', choices=toys.candidates())
    with pytest.raises(ConfigError, match=f'{name} needs logits, .* of GAEAMutator are not'):
        mutator.prepare_from_supernet(supernet)
    entropy = {'type': 'EntropyRegularizer', 'weight': 1.0}
    mutator = mm.build_mutator({'type': 'GAEAMutator', 'extensions': [entropy]})
    mutator.prepare_from_supernet(supernet)
    assert mutator.regularization().item() == pytest.approx(math.log(4))
