"""What all pictures are drawn with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, HostError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    'CHAR',
    'GRAY',
    'INK',
    'PAPER',
    'box',
    'check_ending',
    'new_figure',
    'save_figure',
    'svg_settings',
    'text',
]

# No time of day in a file: the same subnet gives the same picture.
_FORMATS: dict[str, dict[str, Any]] = {
    '.pdf': {'metadata': {'CreationDate': None}},
    '.png': {},
    '.svg': {'metadata': {'Date': None}},
}
_RC: dict[Any, Any] = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'mmrazor_mutators',
    'pdf.fonttype': 42,
}
_DPI, _MAX_PIXELS = 200, 2**14

GRAY, INK, PAPER = '#9aa0a6', '#24292f', '#f3f4f6'
_FONT_SIZE = 9
CHAR = 0.602 * _FONT_SIZE / 72
"""Inches that a letter takes: DejaVu Sans Mono advances by 0.602 em."""


def check_ending(path: str | os.PathLike[str]) -> str:
    """Return what the name of a picture ends in.

    Raises:
        ConfigError: It is none of the formats.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise ConfigError(
            f'Expected the name of a picture to end in one of {", ".join(_FORMATS)}, but got '
            f'{os.fspath(path)!r}'
        )
    return suffix


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, which no window shows.

    Raises:
        HostError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise HostError(
            f'Drawing a subnet needs matplotlib, which cannot be imported here ({error}). '
            'Install it with: pip install "mmrazor-mutators[plot]"'
        ) from error
    return Figure(figsize=(width, height), facecolor='white')


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; folders are made.

    Raises:
        ConfigError: Another ending, or a file that cannot be written.
    """
    suffix, target = check_ending(path), Path(path)
    dpi = min(_DPI, _MAX_PIXELS / max(figure.get_size_inches()))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with svg_settings():
            figure.savefig(target, format=suffix[1:], dpi=dpi, **_FORMATS[suffix])
    except OSError as error:
        raise ConfigError(
            f'Cannot write the picture {os.fspath(path)!r}: {error.strerror or error}'
        ) from error


def svg_settings() -> Any:
    """Return the context in which figures are written: text as text, names by content."""
    import matplotlib as mpl

    return mpl.rc_context(_RC)


def text(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write names as they are: a dollar sign begins no formula."""
    style = {
        'family': ['DejaVu Sans Mono', 'monospace'],
        'usetex': False,
        'fontsize': _FONT_SIZE,
        'color': INK,
        'va': 'center_baseline',
        'zorder': 5,
        'parse_math': False,
        **style,
    }
    axes.text(x, y, text, **style)


def box(axes: Axes, x: float, y: float, width: float, height: float, **style: Any) -> None:
    """Add a rectangle with round corners; ``y`` is its middle."""
    from matplotlib.patches import FancyBboxPatch

    boxstyle = f'round,pad=0,rounding_size={min(0.12, height / 2)}'
    style = {'boxstyle': boxstyle, 'linewidth': 1.2, 'zorder': 4, **style}
    axes.add_patch(FancyBboxPatch((x, y - height / 2), width, height, **style))
