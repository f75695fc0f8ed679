"""DARTS-PT on architectures that compute their own losses, whatever their batches are."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mmrazor_mutators as mm
from mmrazor_mutators.algorithms.batches import PreparedBatches
from mmrazor_mutators.algorithms.task_models import TaskSearch
from mmrazor_mutators.errors import InputError

CLASSES = 3


class Space(nn.Module):
    """Scores of images; the choices are far apart."""

    def __init__(self) -> None:
        super().__init__()
        choices = {name: nn.Conv2d(1, CLASSES, 3) for name in ('first', 'second', 'third')}
        self.op = mm.DifferentiableOP(space_id='a', choices=choices)

    def forward(self, images: Tensor) -> Tensor:
        return self.op(images).mean((2, 3))


class ByMode(Space):
    """What MMPretrain's classifiers look like from outside."""

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        scores = super().forward(inputs)
        if mode == 'tensor':
            return scores
        labels = torch.cat([sample.gt_label for sample in data_samples])
        return {'loss': cross_entropy(scores, labels)}


class ByReturn(Space):
    """What models of mmcls 0.x look like."""

    def forward_dummy(self, img: Tensor) -> Tensor:
        return super().forward(img)

    def forward(self, img: Tensor, return_loss: bool = True, **kwargs: Any) -> Any:
        scores = self.forward_dummy(img)
        return {'loss': cross_entropy(scores, kwargs['gt_label'])} if return_loss else scores


def as_samples(images: Tensor, labels: Tensor) -> Any:
    samples = [SimpleNamespace(gt_label=label.reshape(1)) for label in labels]
    return {'inputs': images, 'data_samples': samples}


def as_dict(images: Tensor, labels: Tensor) -> Any:
    return {'img': images, 'gt_label': labels}


def as_pair(images: Tensor, labels: Tensor) -> Any:
    return images, labels


def batches(form: Any, sizes: tuple[int, ...] = (9, 4)) -> list[Any]:
    generator = torch.Generator().manual_seed(2)
    found = []
    for size in sizes:
        images = torch.randn(size, 1, 6, 6, generator=generator)
        found.append(form(images, torch.randint(CLASSES, (size,), generator=generator)))
    return found


def search_of(kind: type[Space], metric: str) -> tuple[Any, Any]:
    torch.manual_seed(4)
    extension = {'type': 'PerturbationSelection', 'metric': metric, 'tune_epochs': 0}
    model: Any = mm.Darts(kind(), {'type': 'DartsMutator', 'extensions': [extension]})
    optimizers = {
        'architecture': torch.optim.SGD(model.architecture.parameters(), lr=0.1),
        'mutator': torch.optim.Adam(model.mutator.parameters(), lr=0.01),
    }
    return model, model._search_with(optimizers)


@pytest.mark.parametrize('metric', ['accuracy', 'loss'])
@pytest.mark.parametrize(
    ('kind', 'form'),
    [(ByMode, as_samples), (ByMode, as_pair), (ByReturn, as_dict), (ByReturn, as_pair)],
)
def test_badness_is_that_of_a_plain_network(kind: Any, form: Any, metric: str) -> None:
    model, search = search_of(kind, metric)
    plain, expected = search_of(Space, metric)
    plain.load_state_dict(model.state_dict())
    assert isinstance(search, TaskSearch)
    assert not isinstance(expected, TaskSearch)
    prepared = PreparedBatches(batches(form), model._prepare)
    found = model.mutator.extensions[0].badness(search, prepared)
    assert found == pytest.approx(
        plain.mutator.extensions[0].badness(expected, batches(as_pair)), rel=1e-6
    )
    scores = [(plain.architecture(x), y) for x, y in batches(as_pair)]
    by_hand = sum(
        int((s.argmax(1) != y).sum())
        if metric == 'accuracy'
        else len(y) * cross_entropy(s, y).item()
        for s, y in scores
    )
    assert found == pytest.approx(by_hand / 13, rel=1e-5)


@pytest.mark.parametrize(('kind', 'form'), [(ByMode, as_samples), (ByReturn, as_dict)])
def test_the_same_choice_is_made(kind: Any, form: Any) -> None:
    model, search = search_of(kind, 'accuracy')
    plain, expected = search_of(Space, 'accuracy')
    plain.load_state_dict(model.state_dict())
    prepared = PreparedBatches(batches(form), model._prepare)
    search.finish(prepared, prepared)
    expected.finish(batches(as_pair), batches(as_pair))
    assert model.mutator.search_subnet() == plain.mutator.search_subnet()
    assert len(model.mutator.kept_choices('a')) == 1


def test_targets_that_are_no_classes() -> None:
    class Boxes(ByMode):
        def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
            return {'loss': Space.forward(self, inputs).mean()} if mode == 'loss' else [inputs]

    samples = [SimpleNamespace(boxes=[])] * 2
    batch = {'inputs': torch.randn(2, 1, 6, 6), 'data_samples': samples}
    model, search = search_of(Boxes, 'accuracy')
    with pytest.raises(InputError, match=r"class indices of shape .*; use metric='loss'"):
        model.mutator.extensions[0].badness(search, [batch])
    model, search = search_of(Boxes, 'loss')
    with torch.no_grad():
        expected = model.architecture(**batch, mode='loss')['loss'].item()
    assert model.mutator.extensions[0].badness(search, [batch]) == pytest.approx(expected)


def test_a_supernet_without_losses() -> None:
    search = copy.copy(search_of(ByReturn, 'accuracy')[1])
    search.supernet = nn.ReLU()
    with pytest.raises(InputError, match='but ReLU has neither modes nor `return_loss`'):
        search.predict(batches(as_dict)[0])
