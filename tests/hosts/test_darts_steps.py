"""MMRazor v0.2.0's own DARTS configs and subnet file, step by step, on either host."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators import host
from mmrazor_mutators.mutables import find_mutables

FOLDER = Path(__file__).parents[2] / 'configs' / 'mmrazor_v0_2_0'
PAPER = FOLDER / 'darts_paper.yaml'


def algorithm(name: str, width: int = 4, layers: int = 3, **changes: Any) -> Any:
    """Build the algorithm of a config file, with fewer and narrower cells."""
    cfg = copy.deepcopy(host.Config.fromfile(str(FOLDER / name)).algorithm)
    cfg.update(changes)
    model = cfg.architecture.model
    model.backbone.update(base_channels=width, num_layers=layers, out_indices=(layers - 1,))
    model.head.update(in_channels=16 * width)
    torch.manual_seed(0)
    return mm.build_algorithm(cfg)


def batch(seed: int, size: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 32, 32, generator=generator)
    return {'img': images, 'gt_label': torch.randint(10, (size,), generator=generator)}


@pytest.mark.parametrize('unroll', [True, False])
def test_the_supernet_is_searched(unroll: bool) -> None:
    model = algorithm('darts_supernet.py', unroll=unroll).train()
    optimizers = {
        'architecture': torch.optim.SGD(model.architecture.parameters(), 0.025, 0.9),
        'mutator': torch.optim.Adam(model.mutator.parameters(), 3e-4),
    }
    logits = {name: p.detach().clone() for name, p in model.mutator.arch_params.items()}
    weights = [p.detach().clone() for p in model.architecture.parameters()]
    outputs = model.train_step([batch(1), batch(2)], optimizers)
    assert torch.isfinite(outputs['loss'])
    assert outputs['num_samples'] == 4
    # Adam's first step has the length of its learning rate, unless there is hardly a gradient.
    for name, param in model.mutator.arch_params.items():
        steps = (param - logits[name]).abs()
        assert 1e-5 < steps.min() <= steps.max() < 3.1e-4, name
    moved = [
        not torch.equal(p, w)
        for p, w in zip(model.architecture.parameters(), weights, strict=True)
    ]
    assert all(moved)
    subnet = model.mutator.search_subnet()
    paper = mm.load_subnet(PAPER)
    # It names the operations on all edges, ours those on the edges that are kept.
    assert subnet.keys() < paper.keys()
    assert {sid for sid in subnet if '_p' not in sid} == {s for s in paper if '_p' not in s}
    assert not any('zero' in entry['chosen'] for entry in subnet.values())


def test_the_network_of_the_paper_is_retrained() -> None:
    model = algorithm('darts_subnet.py', mutable_cfg=str(PAPER)).train()
    assert not list(find_mutables(model))
    data = batch(3)
    twin = copy.deepcopy(model.architecture.model)
    auxiliary, features = twin.backbone(data['img'])
    pooled = features.mean((2, 3))
    main = F.cross_entropy(twin.head.fc(pooled), data['gt_label'])
    aux = F.cross_entropy(twin.head.aux_linear(auxiliary.flatten(1)), data['gt_label'])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.025)
    outputs = model.train_step(data, optimizer)
    assert_close(outputs['loss'], main + 0.4 * aux)
    assert outputs['log_vars']['aux_head.loss'] == pytest.approx(0.4 * aux.item(), rel=1e-5)
    outputs['loss'].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_network_of_the_paper_is_deployed_and_exported() -> None:
    model = algorithm('darts_supernet.py').eval()
    subnet = mm.load_subnet(PAPER)
    net = model.mutator.export_subnet(model.architecture, subnet)
    model.mutator.deploy_subnet(model.architecture, subnet)
    images = batch(4)['img']
    assert_close(net(images), model.architecture(images))
    for space_id, entry in subnet.items():
        for mutable in find_mutables(model.architecture):
            if mutable.space_id == space_id:
                assert set(mutable.choice_names) == set(entry['chosen']), space_id
