"""What every candidate operation has: channels, a stride, checked arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..checks import check_count
from ..errors import ConfigError
from ..host import BaseModule

__all__ = ['BaseOP', 'check_choice', 'check_count', 'check_kernel_size']


def check_kernel_size(value: Any) -> int:
    """Return ``value`` if it is odd, so that half of it pads to the same size.

    Raises:
        ConfigError: It is no positive odd int.

    >>> check_kernel_size(5)
    5
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or value % 2 == 0:
        raise ConfigError(
            f'Expected `kernel_size` to be an odd int of at least 1, but got {value!r}'
        )
    return value


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """Return ``value`` if it is one of ``choices``.

    Raises:
        ConfigError: It is not.

    >>> check_choice('stride', 2, (1, 2))
    2
    """
    if value not in choices:
        raise ConfigError(
            f'Expected `{name}` to be {" or ".join(map(repr, choices))}, but got {value!r}'
        )
    return value


class BaseOP(BaseModule):
    r"""Base class of the candidate operations.

    An operation maps ``(N, in_channels, H, W)`` to
    :math:`(N, \text{out\_channels}, \lceil H / s \rceil, \lceil W / s \rceil)`
    with stride :math:`s`, so that all candidates of a place agree on the shape,
    for odd sizes as well.

    Args:
        in_channels: Channels of the input, at least 1.
        out_channels: Channels of the output, at least 1.
        stride: Step between the output pixels, at least 1.
        init_cfg: As for the host's ``BaseModule``.

    Attributes:
        is_zero: Whether the output is zero whatever the input, so that a
            search may skip the operation and a subnet should not contain it.

    Raises:
        ConfigError: A number of channels or a stride below 1.
    """

    is_zero: bool = False

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, init_cfg: Any | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = check_count('in_channels', in_channels)
        self.out_channels = check_count('out_channels', out_channels)
        self.stride = check_count('stride', stride)
