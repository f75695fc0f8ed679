"""State of a module that is no parameter or buffer, as a tensor."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, NASError

__all__ = ['TensorState']


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


class TensorState(nn.Module):
    """A module whose ``state_dict`` holds its extra state as a tensor, as packages want it."""

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
