"""The epoch of a search, which schedules depend on and checkpoints keep."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..host import BaseModule
from .tensor_state import TensorState

__all__ = ['Scheduled']


class Scheduled(TensorState, BaseModule):
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

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        *args: Any,
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, *args
        )
        # Checkpoints of MMRazor hold nothing but the parameters.
        if f'{prefix}_extra_state' in missing_keys:
            missing_keys.remove(f'{prefix}_extra_state')
