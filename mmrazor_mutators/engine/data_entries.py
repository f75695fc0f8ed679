"""What the data sets of a config ask for, tried before anything is read or trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..datasets import ImageDataset, ImageFolder
from ..datasets.steps import build_steps
from ..errors import ConfigError, UnknownTypeError
from ..registry import DATASETS

__all__ = ['check_data_sets']

_PACKAGE = __name__.split('.')[0]


def check_data_sets(cfg: Mapping[str, Any]) -> None:
    """Refuse transforms that our data sets cannot be built with.

    The host builds the data sets of a test when the training is over, which is
    late to learn of a misspelled entry.

    Args:
        cfg: A whole config.

    Raises:
        ConfigError: In which data set, and what a valid entry is.

    >>> dataset = {'type': 'Digits', 'transform': {'type': 'Cutout', 'size': 4}}
    >>> check_data_sets({'test_dataloader': {'dataset': dataset}})
    Traceback (most recent call last):
    ...
    mmrazor_mutators.errors.ConfigError: In `test_dataloader.dataset.transform`: Cutout \
takes no argument 'size'; Known: length. A valid entry is dict(type='Cutout', length=16)
    """
    for path, entry in _data_sets(cfg, ''):
        if 'transform' in entry and _is_ours(entry.get('type')):
            try:
                build_steps(entry['transform'])
            except ConfigError as error:
                raise type(error)(f'In `{path}.transform`: {error}') from error


def _is_ours(part: Any) -> bool:
    if isinstance(part, str):
        try:
            part = DATASETS.get(part)
        except UnknownTypeError:  # Its builder says so better.
            return False
    ours = isinstance(part, type) and part.__module__.split('.')[0] == _PACKAGE
    return ours and issubclass(part, (ImageDataset, ImageFolder))


def _data_sets(value: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield ``(path, config)`` of all data sets inside of a value."""
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, Mapping) else ()
    if isinstance(value, (list, tuple)):
        items = enumerate(value)
    for key, entry in items:
        inner = f'{path}.{key}' if path else str(key)
        if key == 'dataset' and isinstance(entry, Mapping):
            yield inner, entry
        yield from _data_sets(entry, inner)
