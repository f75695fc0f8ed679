"""The searchable backbones as SPOS models of MMRazor v0.2.0, step by step, on either host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.algorithms import BaseAlgorithm
from mmrazor_mutators.mutables import find_mutables

FOLDER = Path(__file__).parents[2] / 'configs' / 'mmrazor_v0_2_0'
BACKBONES = {
    'shufflenetv2': {'type': 'SearchableShuffleNetV2', 'widen_factor': 0.1},
    'mobilenet': {
        'type': 'SearchableMobileNet',
        'widen_factor': 0.1,
        'last_channels': 1024,
        'arch_setting_type': 'proxyless_gpu',
    },
}
every_backbone = pytest.mark.parametrize('kind', BACKBONES)
CLASSES, SMOOTHING = 3, 0.1


def spos(kind: str, **changes: Any) -> Any:
    """Return a small model as a config of v0.2.0 describes it."""
    torch.manual_seed(0)
    loss = {'type': 'LabelSmoothLoss', 'label_smooth_val': SMOOTHING, 'mode': 'original'}
    model = {
        'type': 'mmcls.ImageClassifier',
        'backbone': BACKBONES[kind],
        'neck': {'type': 'GlobalAveragePooling'},
        'head': {
            'type': 'LinearClsHead',
            'num_classes': CLASSES,
            'in_channels': 1024,
            'loss': {**loss, 'num_classes': CLASSES, 'loss_weight': 1.0},
            'topk': (1,),
        },
    }
    algorithm = {
        'type': 'SPOS',
        'architecture': {'type': 'MMClsArchitecture', 'model': model},
        'mutator': {'type': 'OneShotMutator'},
        'distiller': None,
        'retraining': False,
        'input_shape': (3, 32, 32),
    }
    built = mm.build_algorithm({**algorithm, **changes})
    built.init_weights()
    return built


def batch(size: int = 6, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 32, 32, generator=generator)
    return {'img': images, 'gt_label': torch.randint(CLASSES, (size,), generator=generator)}


def smoothed(scores: Tensor, labels: Tensor) -> Tensor:
    """Return cross entropy with labels of which a share is spread over all classes."""
    target = torch.full_like(scores, SMOOTHING / CLASSES)
    target[torch.arange(len(labels)), labels] += 1 - SMOOTHING
    return -(target * scores.log_softmax(1)).sum(1).mean()


@every_backbone
def test_a_step_leaves_the_optimizer_to_the_caller(kind: str) -> None:
    model, data = spos(kind).train(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    torch.manual_seed(5)
    path = model.mutator.masks_to_subnet(model.mutator.sample_subnet())
    net = model.mutator.export_subnet(model.architecture, path).train()
    torch.manual_seed(5)
    outputs = model.train_step(data, optimizer)
    expected = smoothed(net.forward_dummy(data['img']), data['gt_label'])
    assert_close(outputs['loss'], expected)
    assert outputs['num_samples'] == 6
    assert outputs['log_vars']['loss'] == pytest.approx(expected.item())
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name
    outputs['loss'].backward()
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    chosen = {f'.choices.{name}.' for entry in path.values() for name in entry['chosen']}
    in_choices = {name for name in moved if '.choices.' in name}
    assert in_choices
    assert all(any(part in name for part in chosen) for name in in_choices)
    for mutable in find_mutables(model.architecture):
        assert list(mutable.active_names) == path[mutable.space_id]['chosen']


@every_backbone
def test_predictions_with_statistics_of_the_batch(kind: str) -> None:
    model, data = spos(kind, bn_training_mode=True).eval(), batch()
    model.mutator.set_subnet(model.mutator.random_subnet(2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = model(img=data['img'], return_loss=False)
    net = model.mutator.export_subnet(model.architecture, model.mutator.random_subnet(2))
    expected = net.train().forward_dummy(data['img']).softmax(1)
    assert_close(torch.stack(list(scores)), expected.detach())
    assert_close(model.state_dict(), before, rtol=0, atol=0)


@every_backbone
def test_the_listed_network_is_deployed_and_retrained(kind: str) -> None:
    (path,) = FOLDER.glob(f'spos_{kind}_*.yaml')
    model, data = spos(kind).eval(), batch()
    subnet = mm.load_subnet(path)
    net = model.mutator.export_subnet(model.architecture, subnet)
    model.mutator.deploy_subnet(model.architecture, subnet)
    assert_close(model.architecture(data['img']), net(data['img']))
    trained = spos(kind, retraining=True, mutable_cfg=str(path)).train()
    expected = smoothed(trained.architecture.forward_dummy(data['img']), data['gt_label'])
    outputs = trained.train_step(data, torch.optim.SGD(trained.parameters(), lr=0.05))
    assert_close(outputs['loss'], expected)
    outputs['loss'].backward()
    assert all(p.grad is not None for p in trained.parameters())


@pytest.mark.parametrize(
    'kind', [pytest.param('mobilenet', marks=pytest.mark.slow), 'shufflenetv2']
)
def test_evolution_over_the_paths(kind: str) -> None:
    pytest.importorskip('mmengine', reason='FLOPs are counted by mmengine')
    model = spos(kind, bn_training_mode=True)
    limit = model.get_subnet_costs(model.mutator.random_subnet(0))['flops']
    options = {'candidate_pool_size': 3, 'num_mutation': 2, 'num_crossover': 1}
    evolution = model.build_evolution(
        seed=1, max_epoch=2, candidate_top_k=2, constraints={'flops': limit}, **options
    )
    batches = [batch(12, seed=3)]
    best = evolution.run(lambda candidate: model.score(candidate, batches))
    assert len(evolution.evaluated) == 6
    assert best.score == max(entry.score for entry in evolution.evaluated)
    net = model.mutator.export_subnet(model.architecture, best.candidate).train()
    with torch.no_grad():
        right = net.forward_dummy(batches[0]['img']).argmax(1) == batches[0]['gt_label']
    assert best.score == pytest.approx(100 * right.double().mean().item())
    assert all(entry.costs['flops'] <= limit for entry in evolution.evaluated)


def test_a_model_without_a_search_takes_ordinary_steps() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, CLASSES))
    model, data = BaseAlgorithm(net), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = torch.nn.functional.cross_entropy(net(data['img']), data['gt_label'])
    outputs = model.train_step(data, optimizer)
    assert_close(outputs['loss'], expected)
    assert net[1].weight.grad is None
    wrappers = pytest.importorskip('mmengine.optim')
    before = net[1].weight.detach().clone()
    (grad,) = torch.autograd.grad(expected, net[1].weight)
    logs = model.train_step(data, wrappers.OptimWrapper(optimizer))
    assert_close(logs['loss'].detach(), expected.detach())
    assert_close(net[1].weight.detach(), before - 0.1 * grad)
