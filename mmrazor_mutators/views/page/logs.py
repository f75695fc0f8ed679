"""What the logs of a run tell: the versions it ran on, and how a training went."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...documents import parse_json, read_text
from ..curves import Panel

__all__ = ['training_panels', 'versions_of']

_HEADER = 20_000
_MOST = 2**24
_VERSIONS = re.compile(r'^ *(Python|PyTorch|MMEngine|GPU [0-9,]+): (.+?)(?: \(.*)?$', re.M)
_SHOWN = {'loss': 'loss', 'accuracy': 'accuracy'}


def versions_of(folder: Path) -> dict[str, str]:
    """Return the versions and devices that the newest log in a work directory begins with."""
    logs = sorted(folder.glob('*/*.log'))
    with suppress(IndexError, OSError), logs[-1].open('rb') as file:
        text = file.read(_HEADER).decode('utf-8', 'replace')
        return dict(_VERSIONS.findall(text))
    return {}


def training_panels(folder: Path) -> tuple[list[Panel], np.ndarray]:
    """Return loss and accuracy of a training, averaged over what was logged of each epoch.

    A training that was resumed has several logs, of which the later ones count.

    Args:
        folder: Of the training.

    Returns:
        Panels, and the epochs of their values.
    """
    noted: dict[int, dict[str, list[float]]] = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        of_run: dict[int, dict[str, list[float]]] = {}
        with suppress(OSError, ValueError):
            for line in read_text(path, _MOST).splitlines():
                _note(line, of_run)
        noted.update(of_run)
    epochs = sorted(noted)
    panels: list[Panel] = []
    for key, title in _SHOWN.items():
        values = np.array([np.mean(noted[e].get(key) or [np.nan]) for e in epochs])
        if np.isfinite(values).any():
            panels.append((title, {title: values}, None))
    return panels, np.array(epochs)


def _note(line: str, of_run: dict[int, dict[str, list[float]]]) -> None:
    """Keep what a line says of a step of an epoch; half a line says nothing."""
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        entry = parse_json(line)
        for key in _SHOWN if 'loss' in entry else ():
            numbers = of_run.setdefault(int(entry['epoch']), {}).setdefault(key, [])
            numbers.append(float(entry[key]))
