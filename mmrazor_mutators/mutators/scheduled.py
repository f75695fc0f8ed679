"""The epoch of a search, which schedules depend on and checkpoints keep."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, NASError
from ..host import BaseModule

__all__ = ['Scheduled']


def packed(state: Any) -> Tensor:
    """Return a state as a tensor: the bytes of a file that ``torch.save`` writes.

    >>> unpacked(packed({'epoch': 3}))
    {'epoch': 3}
    """
    file = io.BytesIO()
    torch.save(state, file)
    return torch.frombuffer(bytearray(file.getbuffer()), dtype=torch.uint8)


def unpacked(tensor: Tensor) -> Any:
    """Return what :func:`packed` was given.

    Whole numbers up to 255 survive a conversion of the state dict to another dtype.

    Raises:
        InputError: The tensor holds something else.
    """
    try:
        file = io.BytesIO(tensor.detach().cpu().to(torch.uint8).numpy().tobytes())
        return torch.load(file, weights_only=True, map_location='cpu')
    except Exception as error:  # torch documents none of the kinds.
        raise InputError(
            'Expected `_extra_state` of a state dict to be as `state_dict` returned it, but '
            f'got a tensor of {tensor.numel()} numbers that cannot be read ({error}); remove '
            'that key to load the parameters alone'
        ) from error


class Scheduled(BaseModule):
    """A module that knows the epoch, also after a checkpoint was loaded.

    Args:
        **kwargs: As for the module that this class is combined with.

    Attributes:
        epoch: From 0 to ``max_epochs - 1``.
        max_epochs: Number of epochs of the whole search.
        restoring: Whether a checkpoint is being loaded, so that schedules move
            to an epoch that has begun already.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epoch = 0
        self.max_epochs = 1
        self.restoring = False

    def on_epoch(self, epoch: int, max_epochs: int) -> None:
        """Move every schedule to an epoch; call it before the epoch begins.

        Args:
            epoch: From 0 to ``max_epochs - 1``.
            max_epochs: Number of epochs of the whole search.

        Raises:
            InputError: An epoch outside of that range.
        """
        numbers = all(isinstance(n, int) for n in (epoch, max_epochs))
        if not numbers or not 0 <= epoch < max_epochs:
            last = max_epochs - 1 if numbers else 'the number of epochs less 1'
            raise InputError(
                f'Expected an epoch from 0 to {last}, the last one of max_epochs='
                f'{max_epochs!r}, but got {epoch!r}'
            )
        self.epoch, self.max_epochs = epoch, max_epochs

    def get_extra_state(self) -> dict[str, int]:
        """Return what ``state_dict`` holds beside the parameters."""
        return {'epoch': self.epoch, 'max_epochs': self.max_epochs}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Go on where :meth:`get_extra_state` was called."""
        self.restoring = True
        try:
            self.on_epoch(state['epoch'], state['max_epochs'])
        finally:
            self.restoring = False

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # Other packages save tensors alone.
        destination[f'{prefix}_extra_state'] = packed(destination[f'{prefix}_extra_state'])

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        *args: Any,
    ) -> None:
        extra = f'{prefix}_extra_state'
        if isinstance(state_dict.get(extra), Tensor):
            # Checkpoints of earlier versions hold the state as it is.
            state_dict[extra] = unpacked(state_dict[extra])
        try:
            super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, *args
            )
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, NASError):
                raise
            raise InputError(
                f'Expected {extra!r} of a state dict to be the state of a '
                f'{type(self).__name__}, but got {state_dict.get(extra)!r}, which it cannot go '
                f'on from ({type(error).__name__}: {error}); remove that key to load the '
                'parameters alone'
            ) from error
        # Checkpoints of MMRazor hold nothing but the parameters.
        if extra in missing_keys:
            missing_keys.remove(extra)
