"""What mmcv 1.x lacks for models: preprocessing of batches, and the steps of a runner.

The same interface as mmengine's ``BaseModel`` and ``BaseDataPreprocessor``, as
far as it is used here; neither mmcv nor mmengine is imported.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, InputError

__all__ = ['BaseDataPreprocessor', 'ModelSteps']


class BaseDataPreprocessor(nn.Module):
    """Moves batches to the device that its model was moved to last.

    Args:
        non_blocking: Whether copies to a device may run beside the host's work.

    >>> BaseDataPreprocessor()([torch.tensor(1.0), {'name': 'a'}])
    [tensor(1.), {'name': 'a'}]
    """

    def __init__(self, non_blocking: bool = False) -> None:
        super().__init__()
        self._non_blocking = non_blocking
        self._device = torch.device('cpu')

    @property
    def device(self) -> torch.device:
        """Where batches go."""
        return self._device

    def cast_data(self, data: Any) -> Any:
        """Return the same nest of containers with every tensor on :attr:`device`."""
        if isinstance(data, Tensor):
            return data.to(self._device, non_blocking=self._non_blocking)
        if isinstance(data, Mapping):
            return {key: self.cast_data(value) for key, value in data.items()}
        if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
            moved = [self.cast_data(value) for value in data]
            # A namedtuple takes its entries one by one.
            return type(data)(*moved) if hasattr(data, '_fields') else type(data)(moved)  # type: ignore[call-arg]
        return data

    def forward(self, data: Any, training: bool = False) -> Any:
        """Return the batch as the model takes it; a subclass may augment it in training."""
        return self.cast_data(data)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move parameters and buffers, and remember the device."""
        _remember_device(self, _device_of(*args, **kwargs))
        return super().to(*args, **kwargs)


class ModelSteps(nn.Module):
    """Preprocessing, losses and steps of a model; to be mixed into a host's ``BaseModule``.

    Args:
        data_preprocessor: A module, its config, or ``None`` for
            :class:`BaseDataPreprocessor`.
        init_cfg: As for the host's ``BaseModule``.

    Raises:
        ConfigError: ``data_preprocessor`` is none of these.
    """

    def __init__(self, data_preprocessor: Any = None, init_cfg: Any = None) -> None:
        super().__init__(init_cfg)
        if data_preprocessor is None:
            data_preprocessor = BaseDataPreprocessor()
        elif isinstance(data_preprocessor, Mapping):
            data_preprocessor = self._build_preprocessor(data_preprocessor)
        if not isinstance(data_preprocessor, nn.Module):
            raise ConfigError(
                'Expected `data_preprocessor` to be None, a module or its config, but got '
                f'{data_preprocessor!r}'
            )
        self.data_preprocessor = data_preprocessor

    @classmethod
    def _build_preprocessor(cls, cfg: Mapping[str, Any]) -> Any:
        arguments = dict(cfg)
        if arguments.pop('type', None) != 'BaseDataPreprocessor':
            return cls._build_model(cfg)
        try:
            return BaseDataPreprocessor(**arguments)
        except TypeError as error:
            raise ConfigError(
                f'The config of a data preprocessor does not fit: {error}'
            ) from error

    @classmethod
    @abstractmethod
    def _build_model(cls, cfg: Mapping[str, Any]) -> Any:
        """Build what the host has registered."""

    def val_step(self, data: Any) -> Any:
        """Return the predictions for a batch."""
        return self._run_forward(self.data_preprocessor(data, False), mode='predict')

    def test_step(self, data: Any) -> Any:
        """Return the predictions for a batch."""
        return self.val_step(data)

    def parse_losses(self, losses: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the losses, and means of all entries to log.

        Args:
            losses: Tensors or lists of tensors; an entry counts as a loss if
                its name has ``'loss'`` in it.

        Raises:
            InputError: Another entry.
        """
        means: dict[str, Any] = {}
        for name, value in losses.items():
            values = [value] if isinstance(value, Tensor) else value
            if not isinstance(values, list) or not all(isinstance(v, Tensor) for v in values):
                raise InputError(
                    f'Expected the loss {name!r} to be a tensor or a list of tensors, but got '
                    f'{value!r}'
                )
            means[name] = sum(v.mean() for v in values)
        total: Any = sum(value for name, value in means.items() if 'loss' in name)
        return total, {'loss': total, **{n: v for n, v in means.items() if n != 'loss'}}

    def _run_forward(self, data: Any, mode: str) -> Any:
        if isinstance(data, dict):
            return self(**data, mode=mode)
        if isinstance(data, (list, tuple)):
            return self(*data, mode=mode)
        raise InputError(
            f'Expected a batch to be a dict, a list or a tuple, but got {type(data).__name__}'
        )

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move the model, and have batches moved to the same device."""
        _remember_device(self, _device_of(*args, **kwargs))
        return super().to(*args, **kwargs)

    def cuda(self, device: Any = None) -> Any:
        """Move the model to a GPU."""
        return self.to(
            torch.device('cuda', torch.cuda.current_device() if device is None else device)
        )

    def cpu(self) -> Any:
        """Move the model to the CPU."""
        return self.to(torch.device('cpu'))


def _device_of(*args: Any, **kwargs: Any) -> torch.device | None:
    return torch._C._nn._parse_to(*args, **kwargs)[0]  # What ``nn.Module.to`` does itself.


def _remember_device(model: nn.Module, device: torch.device | None) -> None:
    for module in model.modules():
        if device is not None and isinstance(module, BaseDataPreprocessor):
            module._device = device
