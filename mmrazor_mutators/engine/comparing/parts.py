"""The parts of a comparison: each is a work directory, and is run once."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import Tensor

from ...documents import read_json
from ...durable import write_durably
from ...errors import ConfigError
from ...mutables import dump_subnet
from ...typing import Subnet
from ..checkpoints import has_begun
from ..jobs import build_model
from ..resuming import check_same_run, config_text, decisive_values

__all__ = ['Part', 'fingerprint', 'finished_alike', 'keep']

_DONE = 'done.json'


def keep(path: Path, content: str) -> None:
    """Write a file of a comparison in one go.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, content)
    except OSError as error:
        raise ConfigError(
            f'Cannot write {str(path)!r}: {error.strerror}; what is finished is kept, and the '
            'same command goes on'
        ) from error


@dataclass(frozen=True)
class Part:
    """A search or a training.

    Attributes:
        folder: Its work directory.
        cfg: What it is run by.
        subnet: What is trained, if that is known.
    """

    folder: Path
    cfg: Config
    subnet: Subnet | None = None

    def check(self) -> None:
        """Refuse what is there if it was begun by another config.

        Raises:
            ConfigError: What differs.
        """
        if has_begun(self.folder):
            check_same_run(
                self.folder,
                self.cfg,
                self.subnet,
                to_the_end=True,
                hint=f'give another --work-dir, or remove {str(self.folder)!r} to run it anew',
            )

    @property
    def begun(self) -> bool:
        """Whether there is something to go on from."""
        return has_begun(self.folder)

    @property
    def facts(self) -> dict[str, Any] | None:
        """What the part has told when it was finished; ``None`` before.

        Raises:
            ConfigError: The file that tells it cannot be used.
        """
        path = self.folder / _DONE
        if not path.is_file():
            return None
        facts = read_json(path, 'record of a finished part', ConfigError)
        if not isinstance(facts, dict):
            raise ConfigError(
                f'Expected {str(path)!r} to hold what a finished part has told, but it holds '
                f'{type(facts).__name__}; remove it to run the part again'
            )
        return facts

    def number(self, key: str) -> Any:
        """Return a number of :attr:`facts`.

        Raises:
            ConfigError: It is not there, or is no number.
        """
        value = (self.facts or {}).get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(
                f'Expected `{key}` of {str(self.folder / _DONE)!r} to be a number, but got '
                f'{value!r}; remove the file to run the part again'
            )
        return value

    def finish(self, **facts: Any) -> None:
        """Write down that the part is finished; from then on it is not run again."""
        keep(self.folder / _DONE, json.dumps(facts, indent=2) + '\n')

    def adopt(self, facts: dict[str, Any], other: Path) -> None:
        """Take the result of another part in which the same was done."""
        if self.subnet is not None:
            dump_subnet(self.subnet, self.folder / 'subnet.yaml')
        keep(self.folder / 'config.py', config_text(self.cfg))
        self.finish(**facts, same_as=str(other))


def fingerprint(cfg: Config, subnet: Subnet) -> str | None:
    """Return what is equal for two trainings only if they are the same in every number.

    It depends on the network as it is when its training begins, with its weights, and on all
    of the config that decides on the training and its test; not on what has searched.

    Args:
        cfg: Of a retraining.
        subnet: That is trained.

    Returns:
        A digest; ``None`` if the network cannot be pickled.
    """
    model = build_model(cfg, {**cfg.model, 'retraining': True, 'mutable_cfg': subnet})
    settings = decisive_values(cfg)
    settings['model'] = {k: v for k, v in settings['model'].items() if k != 'mutator'}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=repr).encode())
    try:
        for chunk in _described(model):
            digest.update(chunk)
    except Exception:  # A module of anybody's raises whatever pickling it leads to.
        return None
    return digest.hexdigest()


class _Pickler(pickle.Pickler):
    def persistent_id(self, thing: Any) -> Any:
        if not isinstance(thing, Tensor):
            return None
        values = thing.detach().cpu().contiguous()
        content = hashlib.sha256(values.reshape(-1).numpy().tobytes()).hexdigest()
        return f'{values.dtype} {tuple(values.shape)} {thing.requires_grad} {content}'


def _described(model: Any) -> Iterator[bytes]:
    buffer = BytesIO()
    _Pickler(buffer, protocol=4).dump(model)
    yield buffer.getvalue()


def finished_alike(work_dir: Path, mark: str) -> tuple[dict[str, Any], Path] | None:
    """Return what a finished part with a fingerprint has told, and its folder, if there is one.

    Args:
        work_dir: Of the comparison.
        mark: From :func:`fingerprint`.
    """
    for path in sorted(work_dir.rglob(_DONE)):
        try:
            facts = json.loads(path.read_text(encoding='utf-8'))
            same = facts['fingerprint'] == mark and 'same_as' not in facts
        except (OSError, ValueError, KeyError, TypeError):
            continue  # Whoever uses it says what is wrong with it.
        if same:
            return facts, path.parent
    return None
