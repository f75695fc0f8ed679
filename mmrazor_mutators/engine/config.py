"""Config files: reading them, and the parts for retraining."""

from __future__ import annotations

import ast
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..documents import read_text
from ..errors import ConfigError, NASError, did_you_mean
from ..host import RUNNER_PARTS
from ..host.data_files import SUFFIXES, check_data_config, data_only
from ..migration.v0_config import is_legacy_config, report, translated
from ..registry import SCOPE
from .data_entries import check_data_sets
from .schema import check_entries

__all__ = ['load_config', 'retrain_config']

_OTHERS = ('custom_hooks', 'data_root', 'default_scope', 'model', 'retrain', 'work_dir')

_BOOLS = {'true': True, 'false': False}


def load_config(path: str | os.PathLike[str], options: Sequence[str] = ()) -> Config:
    """Read a config file and change some of its entries.

    Args:
        path: A Python (or YAML or JSON) config in mmengine's sense; one of
            MMRazor v0.2.0 is translated.  YAML and JSON run no code except for
            what their ``custom_imports`` name.
        options: ``'a.b=value'`` each; the value is read as Python where it
            can be, ``true`` and ``false`` as well, and as a string otherwise.

    Returns:
        The config, in which ``data_root`` is the ``root`` of every data set
        that has none of its own.

    Raises:
        ConfigError: A file that is missing or cannot be read, or an option
            that is not of that form or changes an entry that nobody reads.
    """
    name = os.fspath(path)
    if not Path(name).is_file():
        raise ConfigError(f'There is no config file {name!r}; ready ones lie in configs/')
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # For modules of the user's, as `python -m` has it.
    is_data = name.endswith(SUFFIXES)
    try:
        if is_data:
            read_text(name)
        with data_only():
            cfg = Config.fromfile(name)
        if is_data:
            check_data_config(cfg.to_dict())
    except NASError:
        raise
    except SyntaxError as error:
        raise ConfigError(
            f'The config file {name!r} is not valid Python: {error.msg} in line {error.lineno}'
        ) from error
    except Exception as error:  # A config is code, which may raise anything.
        raise ConfigError(
            f'The config file {name!r} cannot be read{_line_of(error)}: '
            f'{type(error).__name__}: {error}'
        ) from error
    parsed = dict(map(_parse_option, options))
    for key in parsed:
        _check_entry(key.split('.')[0], cfg)
    try:
        cfg.merge_from_dict(parsed)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, NASError):
            raise
        raise ConfigError(
            f'The options {list(options)} do not fit the config {name!r}: {error}'
        ) from error
    if is_legacy_config(cfg):
        cfg, notes = translated(cfg)
        report(notes)
    cfg.setdefault('default_scope', SCOPE)
    if 'model' not in cfg:
        raise ConfigError(
            f'Expected the config {name!r} to have a `model`, but it has '
            f'{", ".join(sorted(cfg)) or "nothing"}'
        )
    check_entries(cfg.to_dict())
    check_data_sets(cfg.to_dict())
    if cfg.get('data_root') is not None:
        _set_roots(cfg, cfg.data_root)
    return cfg


def _line_of(error: Exception) -> str:
    """Say in which line of which config the error arose, where that is known."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f for f in frames if f.name == '<module>' and f.filename.endswith('.py')]
    return f', line {lines[-1].lineno} of {lines[-1].filename!r}' if lines else ''


def _check_entry(name: str, cfg: Config) -> None:
    known = sorted({*cfg, *RUNNER_PARTS, *_OTHERS})
    if name not in known:
        raise ConfigError(
            f'An option changes {name!r}, which is no entry of the config; '
            f'{did_you_mean(name, known)}'
        )


def _set_roots(cfg: Any, root: Any) -> None:
    """Give ``root`` to every data set whose own is ``None``."""
    for key, value in cfg.items() if isinstance(cfg, (Mapping, Config)) else ():
        if key == 'dataset' and isinstance(value, dict) and value.get('root', root) is None:
            value['root'] = root
        _set_roots(value, root)


def _parse_option(option: str) -> tuple[str, Any]:
    key, separator, value = option.partition('=')
    if not separator or not key:
        raise ConfigError(f'Expected an option of the form key=value, but got {option!r}')
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, _BOOLS.get(value.lower(), value)


def retrain_config(cfg: Config) -> Config:
    """Return the config of the retraining: the search's, overruled by its ``retrain``.

    A dict in ``retrain`` with ``_delete_=True`` replaces the one of the search;
    another one is merged into it.  A config without a ``retrain`` section is
    one for retraining already.

    Raises:
        ConfigError: A data set with transforms that cannot be built.
    """
    if 'retrain' not in cfg:
        return cfg
    merged = Config({key: value for key, value in cfg.to_dict().items() if key != 'retrain'})
    merged.merge_from_dict(cfg.to_dict()['retrain'], allow_list_keys=False)
    check_data_sets(merged.to_dict())
    return merged
