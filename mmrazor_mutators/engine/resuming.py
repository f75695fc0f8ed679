"""The config that a run was begun with: written when it begins, compared when it goes on."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from ..durable import write_durably
from ..errors import ConfigError, NASError
from ..mutables import dump_subnet, load_subnet
from ..typing import Subnet
from .checkpoints import RUN_NUMBER

__all__ = ['BeginHook', 'check_same_run', 'config_text', 'decisive_values', 'values_of']

_FILE = 'config.py'
_DECISIVE = (
    'model',
    'optim_wrapper',
    'param_scheduler',
    'randomness',
    'train_dataloader',
    'train_cfg.type',
    'train_cfg.arch_dataloader',
    'train_cfg.evolution',
    'train_cfg.calibration_batches',
    'data_preprocessor',
    'auto_scale_lr',
)
"""What decides on the numbers of a run, but for how long it is."""

_TO_THE_END = (
    'train_cfg',
    'custom_hooks',
    'load_from',
    'test_dataloader',
    'test_cfg',
    'test_evaluator',
)
"""What decides on the result of a run beside its numbers up to some step."""

_GO_ON = 'go on nevertheless with --resume-changed, or begin anew without --resume'

_WHEREABOUTS = {
    'num_workers',
    'persistent_workers',
    'pin_memory',
    'prefetch_factor',
    'root',
    'mutable_cfg',
    'skip_non_finite',
}
_MISSING = 'nothing'
_SHOWN = 8


class BeginHook(Hook):
    """Writes ``config.py`` when everything is built and checked, and the run begins.

    Args:
        work_dir: Where to.
        text: Of the config; see :func:`config_text`.

    Attributes:
        subnet: What is trained, for ``subnet.yaml``; ``None`` for a search.
    """

    priority = 'VERY_HIGH'

    subnet: Subnet | None = None

    def __init__(self, work_dir: Path, text: str) -> None:
        self._path, self._text = work_dir / _FILE, text

    def before_train(self, runner: Any = None) -> None:
        """Write it; what an earlier run left there is replaced in one go."""
        if is_main_process():
            if self.subnet is not None:  # First, as the config tells that a run was begun.
                dump_subnet(self.subnet, self._path.with_name('subnet.yaml'))
            write_durably(self._path, self._text)


def config_text(cfg: Config) -> str:
    """Return a config as Python.

    Raises:
        ConfigError: It holds what cannot be written so.
    """
    try:
        return str(cfg.pretty_text)
    except SyntaxError as error:  # Of the text that the host has made of it.
        if isinstance(error.__context__, KeyboardInterrupt):  # The host takes it for one.
            raise error.__context__ from None
        raise ConfigError(
            'The config cannot be written as text, so that the run could not be repeated: it '
            'holds something else than numbers, strings, lists and dicts, such as a class; '
            'name it by a string, or in custom_imports'
        ) from error


def check_same_run(
    work_dir: Path,
    cfg: Config,
    subnet: Any = None,
    *,
    to_the_end: bool = False,
    hint: str = _GO_ON,
) -> None:
    """Refuse to go on with a run by a config that decides otherwise.

    How long a run is, what it logs, where its data lies and which steps it skips may change.

    Args:
        work_dir: Of the run.
        cfg: To go on with.
        subnet: That is retrained, if one is.
        to_the_end: Whether its length, its hooks and its test may not change either.
        hint: What to do if it is another one.

    Raises:
        ConfigError: What differs.
    """
    try:
        text = (work_dir / _FILE).read_text(encoding='utf-8')
        written = (work_dir / _FILE).stat().st_mtime_ns
    except OSError:
        return  # There is nothing to compare with.
    with suppress(OSError):
        if (work_dir / RUN_NUMBER).stat().st_mtime_ns > written:
            return  # It is that of an earlier run; this one was ended before it wrote its own.
    try:
        before, now = values_of(text), values_of(config_text(cfg))
    except ValueError as error:
        raise ConfigError(
            f'The config {str(work_dir / _FILE)!r} of the run is not as it was written, so '
            f'that it cannot be told whether it is the same run: {error}; {hint}'
        ) from error
    paths = _paths(to_the_end)
    differing = list(_differences(_decisive(before, paths), _decisive(now, paths), ''))
    if subnet is not None and _other_subnet(work_dir, subnet):
        differing.append('the subnet')
    if differing:
        more = len(differing) - _SHOWN
        shown = '; '.join(differing[:_SHOWN]) + (f'; and {more} more' if more > 0 else '')
        raise ConfigError(
            f'The run in {str(work_dir)!r} was begun otherwise: {shown}. It would be another '
            f'run: {hint}'
        )


def decisive_values(cfg: Config) -> dict[str, Any]:
    """Return all entries of a config that decide on the numbers of a run and its test."""
    return _decisive(values_of(config_text(cfg)), _paths(to_the_end=True))


def _paths(to_the_end: bool) -> list[str]:
    if not to_the_end:
        return [*_DECISIVE]
    return [*(path for path in _DECISIVE if path.split('.')[0] != 'train_cfg'), *_TO_THE_END]


def _other_subnet(work_dir: Path, subnet: Mapping[str, Any]) -> bool:
    try:
        kept = load_subnet(work_dir / 'subnet.yaml')
        chosen = [
            {space: [*entry['chosen']] for space, entry in one.items()}
            for one in (kept, subnet)
        ]
    except (NASError, KeyError, TypeError, AttributeError):
        return False  # Whoever uses it says what is wrong with it.
    return chosen[0] != chosen[1]


def values_of(text: str) -> dict[str, Any]:
    """Return what the text of a config assigns, without running it.

    Raises:
        ValueError: It is no Python, or does anything but assign.

    >>> values_of('randomness = dict(seed=0)')
    {'randomness': {'seed': 0}}
    """
    values = {}
    try:
        for line in ast.parse(text).body:
            if not isinstance(line, ast.Assign) or not isinstance(line.targets[0], ast.Name):
                raise ValueError(f'line {line.lineno} is no assignment')
            values[line.targets[0].id] = _value_of(line.value)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(str(error)) from error
    return values


def _value_of(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict' and not node.args:
        return {str(word.arg): _value_of(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_value_of, node.values), strict=True))
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value_of(entry) for entry in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:  # Infinities and what else has no literal: the text tells.
        return ast.unparse(node)


def _decisive(cfg: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    found = {}
    for path in paths:
        value: Any = cfg
        for key in path.split('.'):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            found[path] = value
    return found


def _differences(before: Any, now: Any, path: str) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            if key not in _WHEREABOUTS:
                inner = f'{path}.{key}' if path else str(key)
                yield from _differences(
                    before.get(key, _MISSING), now.get(key, _MISSING), inner
                )
    elif before != now and not _both_nan(before, now):
        yield f'{path} was {_short(before)} and is {_short(now)}'


def _both_nan(*values: Any) -> bool:
    return all(isinstance(value, float) and math.isnan(value) for value in values)


def _short(value: Any) -> str:
    text = value if value is _MISSING else repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
