"""Mistakes that change what a search finds, and that no error would tell."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.jobs import build_model
from mmrazor_mutators.engine.runner import build_runner
from mmrazor_mutators.search import curvature

CONFIGS = Path(__file__).parents[2] / 'configs'


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 3).double(), torch.randn(6, 2).double()


def search_of(mutator: Any = 'DartsMutator', arch_lr: float = 0.5, **kwargs: Any) -> Any:
    """A search with plain steps of both, whose mutator is penalised as well."""
    extensions = [{'type': 'L2Regularizer', 'weight': 0.3}]
    supernet, mutator = toys.prepared(mutator, extensions=extensions)
    return mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.mse_loss,
        torch.optim.SGD(supernet.parameters(), lr=0.1),
        torch.optim.SGD(mutator.arch_params.values(), lr=arch_lr),
        **kwargs,
    )


def values_of(search: Any) -> dict[str, Tensor]:
    values = {**dict(search.supernet.named_parameters()), **dict(search.mutator.arch_params)}
    return {name: value.detach().clone() for name, value in values.items()}


@pytest.mark.parametrize('grad_clip', [None, 0.05])
@pytest.mark.parametrize('mutator', ['DartsMutator', 'SNASMutator', 'DSNASMutator'])
def test_a_single_level_step_is_one_backward_pass(mutator: str, grad_clip: Any) -> None:
    """Traps: uphill, from two draws, without the penalty, or one after the other."""
    search = search_of(mutator, single_level=True, grad_clip=grad_clip)
    twin = copy.deepcopy(search)
    for seed in range(3):
        images, targets = batch()
        torch.manual_seed(seed)
        logs = search.step((images, targets))

        torch.manual_seed(seed)
        loss = nn.functional.mse_loss(twin.supernet(images), targets)
        logits = list(twin.mutator.arch_params.values())
        penalty = 0.15 * sum(param.square().sum() for param in logits)
        twin.supernet.zero_grad()
        twin.mutator.zero_grad()
        (loss + penalty).backward()
        if grad_clip is not None:
            nn.utils.clip_grad_norm_(twin.supernet.parameters(), grad_clip)
        twin.arch_optimizer.step()
        twin.weight_optimizer.step()

        assert_close(logs, {'loss': loss.detach()})
        assert_close(values_of(search), values_of(twin))


def test_a_single_level_search_waits_for_its_epoch_too() -> None:
    search = search_of(single_level=True, arch_start_epoch=1)
    for epoch, moves in ((0, False), (1, True)):
        before = values_of(search)
        search.on_epoch(epoch, 2)
        search.step(batch())
        after = values_of(search)
        assert not after['head.weight'].equal(before['head.weight'])
        for space_id in search.mutator.arch_params:
            assert after[space_id].equal(before[space_id]) is not moves


def test_a_gradient_below_the_limit_is_not_stretched() -> None:
    """Trap: divided by its norm, a gradient that is small becomes a large one."""
    plain = search_of()
    clipped = copy.deepcopy(plain)
    clipped.grad_clip = 1e6
    batches = batch(), batch()
    for search in (plain, clipped):
        search.step(*batches)
    assert_close(values_of(clipped), values_of(plain), rtol=0, atol=0)


PUBLISHED: dict[str, dict[str, Any]] = {
    'SNASMutator': {'tau_max': 1.0, 'tau_min': 0.03, 'schedule': 'linear'},
    'GDASMutator': {'tau_max': 10.0, 'tau_min': 0.1, 'schedule': 'linear'},
    'FBNetMutator': {'tau_max': 5.0, 'decay': 0.956},
    'PCDartsMutator': {'channel_proportion': 4},
    'FairDartsMutator': {'zero_one_weight': 10.0, 'zero_one': 'l2', 'threshold': 0.85},
    'DrNASMutator': {'kl_weight': 1e-3},
    'DSNASMutator': {'fix_threshold': 0.3, 'exact_gates': False},
    'ReinMaxMutator': {'tau': 1.0, 'exact_gates': True},
    'ProxylessMutator': {'gates': 'two'},
    'SparsemaxMutator': {'alpha': 2.0},
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_defaults_are_the_published_ones(name: str) -> None:
    """A search that is not told otherwise is the authors'."""
    built = toys.build_mutator(name)
    found = {key: getattr(built, key) for key in PUBLISHED[name]}
    assert found == PUBLISHED[name]
    assert set(built.ignore_choices) == {'none', 'zero'}


@pytest.mark.parametrize('name', ['DartsMutator', 'FairDartsMutator', 'GAEAMutator'])
def test_choices_can_be_dropped_again_after_a_forward_pass(name: str) -> None:
    """Trap: what is kept is remembered from the first time on."""
    supernet, mutator = toys.prepared(name)
    x, expected = torch.randn(5, 3).double(), torch.zeros(4).double()
    for dropped in (['none'], ['deep'], []):
        mutator.drop_choices('widen', dropped)
        supernet(x)
    kept = torch.tensor([1, 2])
    expected[kept] = mutator.relax(mutator.arch_params['widen'][kept]).detach()
    assert_close(mutator.mixtures['widen'].weights.detach(), expected)
    assert_close(mutator.scores('widen').detach(), expected)
    # Nor is it remembered from before a checkpoint was loaded.
    state = mutator.state_dict()
    _, other = toys.prepared(name)
    other.drop_choices('widen', ['linear'])
    other.relax_spaces()
    other.load_state_dict(state)
    assert_close(other.relax_spaces()['widen'].weights.detach(), expected)


def test_curvature_is_averaged_over_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: each rank stops by the eigenvalue of its own images, at another epoch."""
    point = torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64)
    vector = torch.tensor([1.0, -2.0, 0.7], dtype=torch.float64)
    shares = [torch.randn(3, 3).double() for _ in range(2)]
    losses = [lambda a, m=m: (m @ a).tanh().square().sum() for m in shares]
    hessians = [torch.autograd.functional.hessian(loss, point) for loss in losses]

    def average(tensors: list[Tensor]) -> None:
        (ours,) = tensors
        ours.copy_((ours + hessians[1] @ vector) / 2)

    monkeypatch.setattr(curvature, 'average_', average)
    leaf = point.clone().requires_grad_()
    product = curvature.hessian_product(losses[0](leaf), [leaf])
    assert_close(product(vector), (hessians[0] + hessians[1]) @ vector / 2)


@pytest.mark.parametrize(
    ('options', 'moves'),
    [
        ({'arch_start_epoch': 1}, [False, False, True, True]),
        ({'arch_interval': 2}, [True, False, True, False]),
        ({'single_level': True}, [True] * 4),
    ],
)
def test_the_model_searches_as_it_is_told(options: dict[str, Any], moves: list[bool]) -> None:
    """Trap: options that the model takes and nobody reads."""
    supernet = nn.Sequential(
        mm.DifferentiableOP(
            space_id='a', choices={'conv': nn.Conv2d(2, 3, 1), 'wide': nn.Conv2d(2, 3, 3, 1, 1)}
        ),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    model = mm.Darts(supernet, {'type': 'DartsMutator'}, **options)
    logits = model.mutator.arch_params['a']
    optim = pytest.importorskip('mmengine.optim')
    optimizers = optim.OptimWrapperDict(
        architecture=optim.OptimWrapper(torch.optim.SGD(supernet.parameters(), lr=0.1)),
        mutator=optim.OptimWrapper(torch.optim.SGD([logits], lr=1.0)),
    )
    moved = []
    for step in range(4):
        model.on_epoch(step // 2, 2)
        before = logits.detach().clone()
        pair = [(torch.randn(6, 2, 4, 4), torch.randint(3, (6,))) for _ in range(2)]
        if 'single_level' in options:
            pair[1] = None
        logs = model.train_step(pair, optimizers)
        assert ('arch_loss' in logs) is (moves[step] and 'single_level' not in options)
        moved.append(not logits.equal(before))
    assert moved == moves


class Recorder(mm.Extension):
    """Remembers what it is told, and ends the search after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps
        self.told: list[Any] = []
        self.stopped = not steps

    def begin_epoch(self, mutator: Any) -> None:
        self.told.append((self.epoch, self.max_epochs))

    def before_step(self, search: Any, train_batch: Any, arch_batch: Any) -> None:
        self.told.append('step')
        self.left -= 1
        self.stopped = not self.left

    def after_search(self, search: Any, train_batches: Any, arch_batches: Any) -> None:
        self.told.append(
            [sum(len(y) for _, y in part) for part in (train_batches, arch_batches)]
        )


@pytest.mark.parametrize(
    ('steps', 'told'),
    [
        (99, [(0, 2), 'step', 'step', (1, 2), 'step', 'step', [40, 30]]),
        (3, [(0, 2), 'step', 'step', (1, 2), 'step', [40, 30]]),
        (0, [[40, 30]]),
    ],
)
def test_a_run_tells_extensions_all_and_ends_when_they_do(
    steps: int, told: list[Any], tmp_path: Path
) -> None:
    """Traps: schedules that stand still, no last word, a stopped run that is resumed."""
    settings = [
        'train_cfg.max_epochs=2',
        'train_dataloader.dataset.images_per_class=4',
        'train_dataloader.batch_size=32',
        'train_cfg.arch_dataloader.dataset.images_per_class=3',
        'model.architecture.base_channels=4',
    ]
    cfg = load_config(str(CONFIGS / 'darts' / 'nasbench201_digits.py'), settings)
    model = build_model(cfg, cfg.model)
    recorder = Recorder(steps)
    model.mutator.extensions.append(recorder)
    build_runner(cfg, model, tmp_path, []).train()
    assert recorder.told == told


def test_configs_of_partial_channels_are_not_changed() -> None:
    """Trap: channels divided in place, so that each mutable of a config has fewer."""
    conv = {'type': 'NasBench201Conv', 'kernel_size': 3, 'in_channels': 8, 'out_channels': 8}
    choices = {'conv': conv, 'skip': {'type': 'NasBench201SkipConnect'}}
    shared = {'in_channels': 8, 'out_channels': 8, 'stride': 2}
    before = copy.deepcopy((choices, shared))
    for i in range(2):
        op = mm.PartialChannelOP(choices, shared, channel_proportion=2, space_id=f's{i}')
        assert op.choices['conv'].in_channels == 4
        assert op.choices['conv'].stride == 2
    assert (choices, shared) == before


def test_masks_move_with_the_network() -> None:
    """Trap: a mask that is no buffer stays on the host."""
    op = mm.DifferentiableOP(space_id='a', choices=toys.candidates()).to('meta')
    assert op.choice_mask.is_meta
    assert not any('mask' in key for key in op.state_dict())


class Twice(nn.Module):
    """Looks at two views of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = mm.DifferentiableOP(space_id='a', choices=toys.units())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.trunk(x), self.trunk(-x)


def test_a_trunk_that_is_passed_twice_draws_once() -> None:
    supernet, _ = toys.prepared('SNASMutator', Twice())
    first, second = supernet(torch.ones(2).double())
    assert_close(first, second, rtol=0, atol=0)


def test_a_resumed_model_keeps_the_beat_of_its_interval() -> None:
    """Trap: counted from 0 again, architecture steps come at other steps."""
    model = mm.Darts(toys.ToySupernet(), {'type': 'DartsMutator'}, arch_interval=2)
    for iteration in (3, 4):
        model.on_epoch(1, 2, iteration)
        assert model.iteration == iteration
