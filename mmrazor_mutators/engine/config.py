"""Config files: reading them, and the parts for retraining."""

from __future__ import annotations

import ast
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..errors import ConfigError, NASError
from ..registry import SCOPE

__all__ = ['load_config', 'retrain_config']


def load_config(path: str | os.PathLike[str], options: Sequence[str] = ()) -> Config:
    """Read a config file and change some of its entries.

    Args:
        path: A Python (or YAML or JSON) config in mmengine's sense.
        options: ``'a.b=value'`` each; the value is read as Python where it
            can be, and as a string otherwise.

    Raises:
        ConfigError: A file that is missing or cannot be read, or an option
            that is not of that form.
    """
    name = os.fspath(path)
    if not Path(name).is_file():
        raise ConfigError(f'There is no config file {name!r}; ready ones lie in configs/')
    try:
        cfg = Config.fromfile(name)
    except NASError:
        raise
    except SyntaxError as error:
        raise ConfigError(
            f'The config file {name!r} is not valid Python: {error.msg} in line {error.lineno}'
        ) from error
    except Exception as error:  # A config is code, which may raise anything.
        raise ConfigError(
            f'The config file {name!r} cannot be read: {type(error).__name__}: {error}'
        ) from error
    try:
        cfg.merge_from_dict(dict(map(_parse_option, options)))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, NASError):
            raise
        raise ConfigError(
            f'The options {list(options)} do not fit the config {name!r}: {error}'
        ) from error
    cfg.setdefault('default_scope', SCOPE)
    if 'model' not in cfg:
        raise ConfigError(
            f'Expected the config {name!r} to have a `model`, but it has '
            f'{", ".join(sorted(cfg)) or "nothing"}'
        )
    return cfg


def _parse_option(option: str) -> tuple[str, Any]:
    key, separator, value = option.partition('=')
    if not separator or not key:
        raise ConfigError(f'Expected an option of the form key=value, but got {option!r}')
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def retrain_config(cfg: Config) -> Config:
    """Return the config of the retraining: the search's, overruled by its ``retrain``.

    A dict in ``retrain`` that has a ``type`` of its own or ``_delete_=True``
    replaces the one of the search; another one is merged into it.  A config
    without a ``retrain`` section is one for retraining already.
    """
    if 'retrain' not in cfg:
        return cfg
    merged = Config({key: value for key, value in cfg.to_dict().items() if key != 'retrain'})
    merged.merge_from_dict(cfg.to_dict()['retrain'], allow_list_keys=False)
    return merged
