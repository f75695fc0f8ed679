"""Our counterpart of mmengine's BaseModel, beside the original where it is there."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmrazor_mutators import host
from mmrazor_mutators.errors import ConfigError, InputError
from mmrazor_mutators.host.models import BaseDataPreprocessor, ModelSteps

Pair = namedtuple('Pair', ['inputs', 'targets'])


class Forward:
    """Tells what it was called with."""

    def forward(self, inputs: Any, targets: Any = None, mode: str = 'tensor') -> Any:
        return mode, inputs, targets


class Ours(Forward, ModelSteps, host.BaseModule):
    @classmethod
    def _build_model(cls, cfg: Any) -> Any:
        return {**cfg} if cfg['type'] == 'Dict' else Doubling()


class Doubling(BaseDataPreprocessor):
    def forward(self, data: Any, training: bool = False) -> Any:
        inputs, targets = self.cast_data(data)
        return 2 * inputs + training, targets


@pytest.fixture
def reference() -> Any:
    """The original, which does the same."""
    model = pytest.importorskip('mmengine.model')
    return type('Theirs', (Forward, model.BaseModel), {})()


def batches() -> list[Any]:
    a, b = torch.randn(2, 3), torch.tensor([1, 0])
    return [
        (a, b),
        [a, {'b': [b, None, 'name', b'bytes', 3]}],
        Pair(a, b),
        {'inputs': a, 'targets': [b, Pair(b, a)]},
        {'inputs': (a,)},
    ]


def assert_same(result: Any, expected: Any) -> None:
    """Compare nests of containers, their types too."""
    assert type(result) is type(expected)
    if isinstance(expected, Tensor):
        torch.testing.assert_close(result, expected, rtol=0, atol=0)
    elif isinstance(expected, dict):
        assert list(result) == list(expected)
        for key in expected:
            assert_same(result[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(result) == len(expected)
        for one, other in zip(result, expected, strict=True):
            assert_same(one, other)
    else:
        assert result == expected


@pytest.mark.parametrize('index', range(5))
@pytest.mark.parametrize('step', ['val_step', 'test_step'])
def test_steps(step: str, index: int, reference: Any) -> None:
    batch = batches()[index]
    result = getattr(Ours(), step)(batch)
    assert result[0] == 'predict'
    assert_same(result, getattr(reference, step)(batch))


@pytest.mark.parametrize(
    'losses',
    [
        {'loss': torch.tensor(2.0)},
        {'a_loss': torch.tensor([1.0, 4.0]), 'accuracy': torch.tensor(0.5)},
        {'b': torch.tensor(9.0), 'loss_a': [torch.tensor([1.0, 2.0]), torch.tensor(3.0)]},
        {'main_loss': torch.tensor(2.0), 'loss': torch.tensor(3.0)},
    ],
)
def test_losses_are_summed(losses: dict[str, Any], reference: Any) -> None:
    total, logs = Ours().parse_losses(losses)
    expected, expected_logs = reference.parse_losses(losses)
    torch.testing.assert_close(total, expected, rtol=0, atol=0)
    if 'loss' in losses:  # The original's total is overwritten by the entry of that name.
        expected_logs['loss'] = expected
    assert_same(logs, dict(expected_logs))


def test_losses_by_hand() -> None:
    logits = torch.tensor([1.0, 3.0], requires_grad=True)
    total, logs = Ours().parse_losses(
        {'loss_a': [logits, logits**2], 'loss_b': logits.sum(), 'accuracy': torch.tensor(0.25)}
    )
    assert {name: value.item() for name, value in logs.items()} == {
        'loss': 11.0,
        'loss_a': 7.0,
        'loss_b': 4.0,
        'accuracy': 0.25,
    }
    total.backward()
    assert logits.grad.tolist() == [2.5, 4.5]  # 1/2 + x + 1


@pytest.mark.parametrize('value', [3.0, [torch.ones(1), 2], None, 'much'])
def test_losses_that_are_none(value: Any) -> None:
    with pytest.raises(InputError, match=r"loss 'loss_c' to be a tensor or a list.*but got "):
        Ours().parse_losses({'loss': torch.ones(1), 'loss_c': value})


@pytest.mark.parametrize('batch', [torch.ones(2), 'batch', None])
def test_batches_that_are_none(batch: Any) -> None:
    message = f'batch to be a dict, a list or a tuple, but got {type(batch).__name__}'
    with pytest.raises(InputError, match=message):
        Ours().val_step(batch)


def test_data_preprocessors() -> None:
    given = Doubling()
    assert type(Ours().data_preprocessor) is BaseDataPreprocessor
    assert Ours(given).data_preprocessor is given
    cfg = {'type': 'BaseDataPreprocessor', 'non_blocking': True}
    built = Ours(cfg).data_preprocessor
    assert type(built) is BaseDataPreprocessor
    assert built._non_blocking is True
    assert cfg == {'type': 'BaseDataPreprocessor', 'non_blocking': True}
    other = Ours({'type': 'Doubling'}, init_cfg={'type': 'Constant'})
    assert other.init_cfg == {'type': 'Constant'}
    mode, inputs, _ = other.val_step((torch.ones(1), None))
    assert (mode, inputs.tolist()) == ('predict', [2.0])
    assert other.data_preprocessor((torch.ones(1), None), True)[0].tolist() == [3.0]


@pytest.mark.parametrize('wrong', [3, 'BaseDataPreprocessor', {'type': 'Dict'}, [Doubling()]])
def test_what_is_no_data_preprocessor(wrong: Any) -> None:
    with pytest.raises(
        ConfigError, match=r'`data_preprocessor` to be None.* but got '
    ) as caught:
        Ours(wrong)
    assert str(wrong)[:6] in str(caught.value)


def test_arguments_of_the_data_preprocessor() -> None:
    with pytest.raises(ConfigError, match=r"does not fit: .*'mean'"):
        Ours({'type': 'BaseDataPreprocessor', 'mean': 3})


@pytest.mark.parametrize(
    'move',
    [lambda model, device: model.to(device), lambda model, device: model.to(device=device)],
)
def test_batches_follow_the_model(move: Any) -> None:
    model = Ours()
    model.layer = nn.Linear(2, 2)
    inner = model.inner = Ours()
    assert model.data_preprocessor.device == torch.device('cpu')
    assert move(model, 'meta') is model
    assert model.layer.weight.is_meta
    for part in (model, inner):
        assert part.data_preprocessor.device == torch.device('meta')
        assert part.val_step((torch.ones(3), 'name'))[1].is_meta
    assert model.to(torch.float64).data_preprocessor.device == torch.device('meta')
    preprocessor = BaseDataPreprocessor()
    assert preprocessor.to('meta')([torch.ones(1)])[0].is_meta
    model = Ours()
    assert model.cpu() is model
    assert model.data_preprocessor.device == torch.device('cpu')


@pytest.mark.cuda
def test_batches_follow_the_model_to_the_gpu() -> None:
    model = Ours().cuda()
    assert model.val_step([torch.ones(3)])[1].is_cuda
    assert not model.cpu().val_step([torch.ones(3)])[1].is_cuda
