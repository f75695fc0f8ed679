"""Darts as a model: losses, steps, and what it takes from its optimizers."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn
from torch.nn.functional import cross_entropy

from mmrazor_mutators.algorithms import Darts
from mmrazor_mutators.errors import ConfigError, InputError, NonFiniteLossError
from mmrazor_mutators.search import BilevelSearch

NB201 = {
    'type': 'NasBench201Supernet',
    'in_channels': 1,
    'num_classes': 3,
    'base_channels': 4,
    'num_cells': 1,
}
DARTS = {
    'type': 'DartsSupernet',
    'in_channels': 1,
    'num_classes': 3,
    'base_channels': 4,
    'num_layers': 3,
    'num_nodes': 1,
    'auxiliary': True,
}


def darts(architecture=NB201, **arguments):
    torch.manual_seed(1)
    return Darts(architecture, {'type': 'DartsMutator'}, **arguments)


def batch(seed, size=6, side=8):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 1, side, side, generator=generator)
    return images, torch.randint(3, (size,), generator=generator)


def wrappers(model, clip=None, **arguments):
    weights = torch.optim.SGD(model.architecture.parameters(), lr=0.1, momentum=0.9)
    alphas = torch.optim.Adam(model.mutator.parameters(), lr=0.01)
    return OptimWrapperDict(
        architecture=OptimWrapper(weights, clip_grad=clip, **arguments),
        mutator=OptimWrapper(alphas),
    )


@pytest.mark.parametrize(
    ('loss', 'smoothing'),
    [(None, 0.0), ({'type': 'CrossEntropyLoss', 'label_smoothing': 0.2}, 0.2)],
)
def test_loss_and_accuracy_of_the_supernet(loss, smoothing):
    model = darts(loss=loss).eval()
    images, labels = batch(0)
    with torch.no_grad():
        logits = model(images)
        losses = model(images, labels, mode='loss')
        predicted = model(images, mode='predict')
    log_probs = logits - logits.exp().sum(1, keepdim=True).log()
    picked = log_probs[range(6), labels]
    expected = -((1 - smoothing) * picked + smoothing * log_probs.mean(1)).mean()
    assert set(losses) == {'loss', 'accuracy'}
    torch.testing.assert_close(losses['loss'], expected)
    right = sum(int(a == b) for a, b in zip(logits.argmax(1), labels, strict=True))
    assert losses['accuracy'].item() == pytest.approx(right / 6)
    assert len(predicted) == 6
    torch.testing.assert_close(torch.stack(predicted), logits)


@pytest.mark.parametrize('weight', [0.4, 1.5])
def test_loss_with_auxiliary_head(weight):
    subnet = darts(DARTS).mutator.random_subnet(0)
    model = darts(DARTS, retraining=True, mutable_cfg=subnet, auxiliary_weight=weight)
    images, labels = batch(1, side=32)
    state = copy.deepcopy(model.state_dict())
    losses = model.loss(images, labels)
    model.load_state_dict(state)
    logits, auxiliary = model.architecture.forward_with_auxiliary(images)
    assert set(losses) == {'main_loss', 'auxiliary_loss', 'accuracy'}
    torch.testing.assert_close(losses['main_loss'], cross_entropy(logits, labels))
    torch.testing.assert_close(
        losses['auxiliary_loss'], weight * cross_entropy(auxiliary, labels)
    )
    # The step minimises the sum: the gradient of each head's classifier is its own loss's.
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    total = cross_entropy(logits, labels) + weight * cross_entropy(auxiliary, labels)
    names, values = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total, values, allow_unused=True)
    expected = [
        v.detach().clone() if g is None else v.detach() - 0.1 * g
        for v, g in zip(values, gradients, strict=True)
    ]
    model.load_state_dict(state)
    logs = model.train_step((images, labels), optimizer)
    for name, value, wanted in zip(names, values, expected, strict=True):
        torch.testing.assert_close(value.detach(), wanted, msg=name)
    assert logs['loss'].item() == pytest.approx(total.item())


@pytest.mark.parametrize(
    ('arguments', 'hypergradient'),
    [
        ({}, 'first_order'),
        ({'unroll': True}, 'finite_difference'),
        ({'hypergradient': 'exact'}, 'exact'),
    ],
)
@pytest.mark.parametrize('clip', [None, 0.01])
def test_search_step_is_one_of_bilevel_search(arguments, hypergradient, clip):
    model, plain = darts(**arguments), darts()
    pairs = [(batch(2 * i), batch(2 * i + 1)) for i in range(2)]
    wrapped = wrappers(model, clip and {'max_norm': clip})
    own = wrappers(plain)
    search = BilevelSearch(
        plain.architecture,
        plain.mutator,
        cross_entropy,
        own['architecture'].optimizer,
        own['mutator'].optimizer,
        hypergradient=hypergradient,
        grad_clip=clip,
    )
    before = copy.deepcopy(model.state_dict())
    for pair in pairs:
        logs, expected = model.train_step(pair, wrapped), search.step(*pair)
        for key, value in expected.items():
            torch.testing.assert_close(torch.as_tensor(logs[key]), torch.as_tensor(value))
    for key, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, plain.state_dict()[key], rtol=0, atol=0)
    assert all(
        not model.state_dict()[key].equal(before[key])
        for key, _ in model.mutator.named_parameters(prefix='mutator')
    )
    assert model.iteration == 2


def test_clipping_bounds_the_first_step():
    model = darts()
    optimizer = wrappers(model, {'max_norm': 0.01})
    before = [p.detach().clone() for p in model.architecture.parameters()]
    model.train_step((batch(0), batch(1)), optimizer)
    moved = [p - b for p, b in zip(model.architecture.parameters(), before, strict=True)]
    norm = torch.cat([m.detach().flatten() for m in moved]).norm().item()
    assert norm == pytest.approx(0.1 * 0.01, rel=1e-3)


@pytest.mark.parametrize(
    'clip', [{'clip_value': 1.0, 'type': 'value'}, {'max_norm': 1, 'norm_type': 1}]
)
def test_clipping_that_a_search_does_not_do(clip):
    model = darts()
    with pytest.raises(ConfigError, match=r'`clip_grad` of a search .* but got'):
        model.train_step((batch(0), batch(1)), wrappers(model, clip))


def test_optimizers_that_a_search_does_not_take():
    model = darts()
    with pytest.raises(ConfigError, match='accumulative_counts=4'):
        model.train_step((batch(0), batch(1)), wrappers(model, accumulative_counts=4))
    only = OptimWrapperDict(architecture=wrappers(model)['architecture'])
    with pytest.raises(ConfigError, match="has no 'mutator'"):
        model.train_step((batch(0), batch(1)), only)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'unroll': True, 'hypergradient': 'exact'}, "got hypergradient='exact' as well"),
        ({'retraining': True}, 'retraining=True needs to know the network'),
        ({'loss': 5}, 'callable or a config, but got 5'),
        ({'loss': {'type': 'MSELos'}}, "'MSELos' in torch.nn; did you mean 'MSELoss'"),
        ({'loss': {'type': 'MSELoss', 'nope': 1}}, "config of the loss does not fit.*'nope'"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ConfigError, match=message):
        darts(**arguments)


def test_retraining_without_a_mutator():
    with pytest.raises(ConfigError, match='give `mutator`'):
        Darts(NB201, retraining=True, mutable_cfg={'n1_p0': {'chosen': ['none']}})


def test_inputs_that_do_not_fit():
    model = darts()
    images, labels = batch(0)
    with pytest.raises(InputError, match="'predict', but got 'nope'"):
        model(images, labels, mode='nope')
    with pytest.raises(InputError, match=r'pair \(train_batch, arch_batch\), but got Tensor'):
        model.train_step(images, wrappers(model))
    with pytest.raises(InputError, match=r'outputs of shape \(6, 3\) and targets of shape'):
        model.loss(images, labels + 3)


def test_loss_that_is_not_finite_takes_no_step():
    model = darts(retraining=True, mutable_cfg=darts().mutator.random_subnet(0))
    images, labels = batch(0)
    images[0] = float('nan')
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(NonFiniteLossError, match='training loss is nan'):
        model.train_step((images, labels), optimizer)
    assert all(p.equal(b) for p, b in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize('copy_of', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copy_after_a_step_is_searched_on_its_own(copy_of):
    model = darts()
    pair = batch(0), batch(1)
    model.train_step(pair, wrappers(model))
    other = copy_of(model)
    before = [p.detach().clone() for p in model.parameters()]
    other.train_step(pair, wrappers(other))
    assert all(p.equal(b) for p, b in zip(model.parameters(), before, strict=True))
    moved = zip(other.mutator.parameters(), model.mutator.parameters(), strict=True)
    assert all(not a.equal(b) for a, b in moved)


def test_plain_network_without_a_mutator_is_trained():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    model = Darts(net)
    images, labels = batch(0)
    weight = net[1].weight.detach().clone()
    probs = net(images).softmax(1).detach()
    probs[range(6), labels] -= 1
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.5))
    model.train_step((images, labels), optimizer)
    expected = weight - 0.5 * probs.T @ images.flatten(1) / 6
    torch.testing.assert_close(net[1].weight.detach(), expected)
