"""Architectures that compute their own losses, in the two ways OpenMMLab has."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.structures import BaseDataElement
from torch import nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

import mmrazor_mutators as mm
from mmrazor_mutators.algorithms import Darts
from mmrazor_mutators.algorithms.batches import laid_out, pair_of, size_of
from mmrazor_mutators.algorithms.task_models import flattened
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.errors import ConfigError, InputError

CONFIGS = Path(__file__).parents[2] / 'configs'
MEAN, STD = 3.0, 2.0


class Space(nn.Module):
    """Features of images: a space of two convolutions, and a linear layer after pooling."""

    def __init__(self):
        super().__init__()
        choices = {'plain': nn.Conv2d(1, 4, 3), 'wide': nn.Conv2d(1, 4, 5, padding=1)}
        self.op = mm.DifferentiableOP(space_id='a', choices=choices)
        self.fc = nn.Linear(4, 3)

    def forward(self, images):
        return self.fc(self.op(images).mean((2, 3)))


class Classifier(BaseModel):
    """What MMPretrain's classifiers look like from outside."""

    def __init__(self, space):
        super().__init__(ImgDataPreprocessor(mean=[MEAN], std=[STD]))
        self.space = space

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.space(inputs)
        if mode == 'tensor':
            return scores
        if mode == 'predict':
            return [BaseDataElement(pred=score.argmax()) for score in scores]
        labels = torch.cat([sample.gt_label for sample in data_samples])
        return {'loss': cross_entropy(scores, labels), 'acc': torch.tensor(25.0)}


class Detector(BaseModel):
    """Two losses, one of them a list with an entry for each image, as detectors have."""

    def __init__(self):
        super().__init__()
        self.space = Space()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        boxes = [self.space(image[None])[0] for image in inputs]
        if mode != 'loss':
            return boxes
        pairs = list(zip(boxes, data_samples, strict=True))
        return {
            'loss_bbox': [smooth_l1_loss(box, sample.boxes) for box, sample in pairs],
            'loss_cls': torch.stack(boxes).square().mean(),
            'num_pos': torch.tensor(7.0),
        }


class Returning(nn.Module):
    """What models of mmcls 0.x look like."""

    def __init__(self, space):
        super().__init__()
        self.space = space

    def forward_dummy(self, img):
        return self.space(img)

    def forward(self, img, return_loss=True, **kwargs):
        if not return_loss:
            return {'result': self.space(img).softmax(1), 'with': sorted(kwargs)}
        loss = cross_entropy(self.space(img), kwargs['gt_label'])
        return {'loss_cls': 3 * loss, 'accuracy': {'top-1': torch.tensor(50.0)}}


def searched(architecture, **arguments):
    return Darts(architecture, {'type': 'DartsMutator'}, **arguments)


def wrappers(model):
    weights = torch.optim.SGD(model.architecture.parameters(), lr=0.1, momentum=0.9)
    alphas = torch.optim.Adam(model.mutator.parameters(), lr=0.01)
    return OptimWrapperDict(architecture=OptimWrapper(weights), mutator=OptimWrapper(alphas))


def images_and_labels(seed, size=6):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 1, 8, 8, generator=generator)
    return images, torch.randint(3, (size,), generator=generator)


def as_samples(pair):
    """Return a batch as mmengine's loaders bring it: raw images in a list, and samples."""
    images, labels = pair
    samples = [BaseDataElement(gt_label=label.reshape(1)) for label in labels]
    return {'inputs': list(images * STD + MEAN), 'data_samples': samples}


def as_dict(pair):
    return {'img': pair[0], 'gt_label': pair[1]}


def spaces(count):
    torch.manual_seed(3)
    first = Space()
    return [first, *[copy.deepcopy(first) for _ in range(count - 1)]]


@pytest.mark.parametrize('wrapped', [False, True])
@pytest.mark.parametrize('unroll', [False, True])
def test_search_with_data_samples_equals_that_with_pairs(wrapped, unroll):
    one, other = spaces(2)
    inner = Classifier(one)
    model = searched(nn_wrapped(inner) if wrapped else inner, unroll=unroll)
    plain = searched(other, unroll=unroll)
    plain.mutator.load_state_dict(model.mutator.state_dict())
    optimizers = wrappers(model), wrappers(plain)
    for step in range(2):
        pairs = [images_and_labels(2 * step), images_and_labels(2 * step + 1)]
        logs = model.train_step([as_samples(pair) for pair in pairs], optimizers[0])
        expected = plain.train_step(pairs, optimizers[1])
        assert logs['loss'].item() == pytest.approx(expected['loss'].item(), rel=1e-5)
        assert logs['arch_loss'].item() == pytest.approx(expected['arch_loss'].item(), rel=1e-5)
        assert logs['acc'] == 25
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(model.mutator.parameters(), plain.mutator.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def nn_wrapped(inner):
    """Return the model one level down, with its interface."""

    class Outer(BaseModel):
        def __init__(self):
            super().__init__(inner.data_preprocessor)
            self.inner = inner

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return self.inner(inputs, data_samples, mode)

    return Outer()


def test_pair_of_images_and_class_indices_for_a_model_that_reads_samples():
    model = searched(Classifier(Space()))
    images, labels = images_and_labels(0)
    logs = model.train_step([(images * STD + MEAN, labels)] * 2, wrappers(model))
    assert logs['loss'].item() > 0
    batch = model._prepare((images * STD + MEAN, labels))
    torch.testing.assert_close(batch['inputs'], images)
    assert [sample.gt_label.item() for sample in batch['data_samples']] == labels.tolist()


def test_modes_and_steps_of_evaluation():
    model = searched(Classifier(Space())).eval()
    pair = images_and_labels(1)
    batch = model._prepare(as_samples(pair), False)
    scores = model(batch['inputs'])
    torch.testing.assert_close(scores, model.architecture.space(pair[0]))
    predicted = model.test_step(as_samples(pair))
    assert [sample.pred.item() for sample in predicted] == scores.argmax(1).tolist()
    losses = model(**batch, mode='loss')
    assert losses['loss'].item() == pytest.approx(cross_entropy(scores, pair[1]).item())
    assert len(model(batch['inputs'], batch['data_samples'], mode='predict')) == 6


def test_detector_with_lists_of_losses():
    detector = Detector()
    model = searched(detector)
    boxes = torch.randn(3, 3, generator=torch.Generator().manual_seed(5))
    sizes = (8, 9, 12)
    inputs = [torch.randn(1, size, size) for size in sizes]
    samples = [SimpleNamespace(boxes=box) for box in boxes]
    batch = {'inputs': inputs, 'data_samples': samples}
    with torch.no_grad():
        found = torch.cat([detector.space(image[None]) for image in inputs])
    expected = sum(smooth_l1_loss(a, b) for a, b in zip(found, boxes, strict=True))
    expected = (expected + found.square().mean()).item()
    logs = model.train_step((batch, batch), wrappers(model))
    assert logs['arch_loss'].item() == pytest.approx(expected, rel=1e-5)
    assert logs['num_pos'] == 7
    assert logs['loss_bbox'] + logs['loss_cls'] == pytest.approx(logs['loss'].item(), rel=1e-5)
    subnet = model.mutator.search_subnet()
    net = searched(Detector(), retraining=True, mutable_cfg=subnet)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = OptimWrapper(torch.optim.SGD(net.parameters(), lr=0.1))
    total, _ = net.parse_losses(net.losses_of(batch))
    grads = torch.autograd.grad(total, list(net.parameters()))
    net.train_step(batch, optimizer)
    for value, old, grad in zip(net.parameters(), before, grads, strict=True):
        torch.testing.assert_close(value.detach(), old - 0.1 * grad)


@pytest.mark.parametrize('form', [as_dict, lambda pair: pair])
def test_losses_by_return(form):
    one, other = spaces(2)
    model, plain = searched(Returning(one)), searched(other)
    plain.mutator.load_state_dict(model.mutator.state_dict())
    pairs = [images_and_labels(0), images_and_labels(1)]
    logs = model.train_step([form(pair) for pair in pairs], wrappers(model))
    expected = plain.train_step(pairs, wrappers(plain))
    assert logs['arch_loss'].item() == pytest.approx(3 * expected['arch_loss'].item(), rel=1e-5)
    assert logs['top-1'] == 50
    result = model.test_step(form(pairs[0]))
    assert result['with'] == []
    torch.testing.assert_close(
        result['result'], model.architecture.space(pairs[0][0]).softmax(1)
    )
    torch.testing.assert_close(model(pairs[0][0]), model.architecture.space(pairs[0][0]))
    losses = model(img=pairs[0][0], gt_label=pairs[0][1])
    torch.testing.assert_close(losses, model(*pairs[0], mode='loss'))
    assert model(img=pairs[0][0], return_loss=False, img_metas=[])['with'] == ['img_metas']


@pytest.mark.parametrize('form', [as_dict, as_samples])
def test_plain_network_takes_dicts_as_well(form):
    model, twin = (searched(space) for space in spaces(2))
    twin.mutator.load_state_dict(model.mutator.state_dict())
    pairs = [images_and_labels(0), images_and_labels(1)]
    if form is as_dict:
        logs = model.train_step([form(pair) for pair in pairs], wrappers(model))
        assert logs == twin.train_step(pairs, wrappers(twin))
        torch.testing.assert_close(
            torch.stack(model.test_step({'img': pairs[0][0]})), model(pairs[0][0])
        )
    else:
        batch = {'inputs': pairs[0][0], 'data_samples': pairs[0][1]}
        assert pair_of(batch) == pairs[0]


def test_options_reach_the_search():
    class Cell(Space):
        is_cell = True

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = Cell()

        def forward(self, x):
            return self.cell(x)

    model = searched(Net(), checkpoint_cells=True, autocast='bfloat16')
    model.train_step([images_and_labels(0), images_and_labels(1)], wrappers(model))
    execution = model._search.execution
    assert [type(cell).__name__ for cell in execution.cells] == ['Cell']
    assert execution.autocast == 'bfloat16'
    without = searched(Net())
    without.train_step([images_and_labels(0), images_and_labels(1)], wrappers(without))
    assert not without._search.execution.cells
    assert without._search.execution.autocast is None


@pytest.mark.parametrize('autocast', [None, 'bfloat16'])
def test_autocast_of_an_architecture_with_losses(autocast):
    model = searched(Returning(Space()), autocast=autocast)
    seen = []
    model.architecture.space.fc.register_forward_hook(lambda *a: seen.append(a[2].dtype))
    model.train_step([images_and_labels(0), images_and_labels(1)], wrappers(model))
    assert {*seen} == {torch.bfloat16 if autocast else torch.float32}


@pytest.mark.parametrize('copy_of', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(copy_of):
    model = searched(Returning(Space()))
    pairs = [images_and_labels(0), images_and_labels(1)]
    model.train_step(pairs, wrappers(model))
    twin = copy_of(model)
    logs = [m.train_step(pairs, wrappers(m)) for m in (model, twin)]
    assert logs[0] == logs[1]


@pytest.mark.parametrize(
    ('losses', 'message'),
    [
        (torch.tensor(1.0), 'a dict of them, but got Tensor'),
        ({'loss': 1.0}, "the loss 'loss' to be a tensor or a list of tensors, but got 1.0"),
        ({'loss': [torch.tensor(1.0), 'a']}, "'loss' .* but got .*'a'"),
        ({'acc': torch.tensor(1.0)}, "'loss' in its name, but got 'acc'"),
        ({}, 'but got nothing'),
    ],
)
def test_losses_of_another_form(losses, message):
    with pytest.raises(InputError, match=message):
        flattened(losses)


def test_losses_in_tuples_and_dicts():
    one = torch.tensor(1.0)
    flat = flattened({'loss_a': (one, one), 'more': {'x': one}})
    assert flat == {'loss_a': [one, one], 'x': one}


def test_batches_of_another_form():
    with pytest.raises(InputError, match="a dict with 'imgs'"):
        pair_of({'imgs': 1})
    with pytest.raises(InputError, match='but got 3 parts'):
        pair_of((1, 2, 3))
    with pytest.raises(InputError, match='but got int'):
        pair_of(5)
    model = searched(Returning(Space()))
    with pytest.raises(InputError, match="as 'img' or 'inputs', but it has 'images'"):
        model._prepare({'images': 1})


def test_layout_of_dicts():
    images = torch.randn(2, 3, 4, 5)
    batch = laid_out({'inputs': images, 'data_samples': None}, torch.channels_last)
    assert batch['inputs'].is_contiguous(memory_format=torch.channels_last)
    assert batch['inputs'].equal(images)
    ragged = {'inputs': [images[0]], 'data_samples': None}
    assert laid_out(ragged, torch.channels_last) == ragged
    assert size_of(batch) == 2


def test_loss_beside_an_architecture_that_has_its_own():
    with pytest.raises(
        ConfigError, match=r"Returning computes its own losses, but got loss=.*'L"
    ):
        searched(Returning(Space()), loss={'type': 'L1Loss'})


@pytest.mark.parametrize('name', ['pruner', 'distiller', 'channel_cfg'])
def test_no_pruning(name):
    with pytest.raises(ConfigError, match=rf"`{name}` to be None.*but got {{'type': 'X'}}"):
        searched(Space(), **{name: {'type': 'X'}})
    searched(Space(), **{name: None})


@pytest.mark.parametrize(
    ('name', 'channels'),
    [('mmpretrain/darts_cifar10.py', 256), ('mmdet/darts_retinanet_coco.py', 256)],
)
def test_backbones_of_the_configs_for_other_packages(name, channels):
    cfg = load_config(CONFIGS / name)
    backbone = mm.build_architecture(cfg.model.architecture.backbone)
    mm.build_mutator(cfg.model.mutator).prepare_from_supernet(backbone)
    maps = backbone(torch.randn(1, 3, 8, 8))
    neck = cfg.model.architecture.neck
    assert [m.shape[1] for m in maps] == neck.get('in_channels', [channels])
    assert maps[-1].shape[1] == channels
    assert backbone.out_channels == channels
