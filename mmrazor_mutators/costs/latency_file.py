"""The file of a latency profile."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..durable import write_durably
from ..errors import ConfigError

__all__ = ['LatencyFile']

_VERSION = 1


def _device_name(device: str | torch.device) -> str:
    kind = torch.device(device)
    if kind.type == 'cuda':
        return torch.cuda.get_device_name(kind)
    if kind.type != 'cpu':
        return str(kind)
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
        name = next(line.split(':', 1)[1].strip() for line in lines if 'model name' in line)
    except (OSError, StopIteration):
        name = 'cpu'
    return f'{name}, {torch.backends.cpu.get_cpu_capability()}'


@dataclass
class LatencyFile:
    """Measured times, and on what they were measured.

    Attributes:
        where: Device, threads and version of PyTorch.
        entries: ``{layer: {'median', 'spread', 'runs'}}``; seconds, the spread is half of what
            lies between the quartiles.
        networks: ``{supernet: {'scale', 'offset'}}``: the line that leads from the sum of
            entries to milliseconds of a whole network.
    """

    where: dict[str, Any]
    entries: dict[str, dict[str, float]] = field(default_factory=dict)
    networks: dict[str, dict[str, float]] = field(default_factory=dict)

    @staticmethod
    def here(device: str | torch.device) -> dict[str, Any]:
        """Return what times depend on, besides the network."""
        return {
            'device': _device_name(device),
            'threads': torch.get_num_threads(),
            'torch': torch.__version__,
        }

    @classmethod
    def read(cls, path: Any) -> LatencyFile:
        """Read a file.

        Raises:
            ConfigError: It is missing, or no profile.
        """
        name = os.fspath(path)
        try:
            content: Any = json.loads(Path(name).read_text(encoding='utf-8'))
        except OSError as error:
            raise ConfigError(
                f'The profile {name!r} cannot be read: {error.strerror}; write one with: '
                'mmrazor-mutators profile CONFIG --out FILE'
            ) from error
        except ValueError as error:
            raise ConfigError(f'The profile {name!r} is no JSON: {error}') from error
        parts = ('where', 'entries', 'networks')
        good = isinstance(content, Mapping) and content.get('version') == _VERSION
        if not good or not all(isinstance(content.get(part), dict) for part in parts):
            raise ConfigError(
                f'Expected {name!r} to be a latency profile, version {_VERSION}, with '
                f'{", ".join(parts)}; write it anew with "mmrazor-mutators profile"'
            )
        profile = cls(*(content[part] for part in parts))
        profile._check(name)
        return profile

    def _check(self, name: str) -> None:
        kinds = (('entries', ('median',)), ('networks', ('scale', 'offset')))
        for part, wanted in kinds:
            for key, entry in getattr(self, part).items():
                values = [entry.get(w) for w in wanted] if isinstance(entry, dict) else [None]
                if not all(isinstance(v, (int, float)) and np.isfinite(v) for v in values):
                    raise ConfigError(
                        f'In the profile {name!r}: expected {", ".join(wanted)} of {key!r} to '
                        f'be numbers, but got {entry!r}'
                    )

    @classmethod
    def read_or_new(cls, path: Any, device: str | torch.device) -> LatencyFile:
        """Read a file of this device, or begin one.

        Raises:
            ConfigError: A file of another device, number of threads or version.
        """
        here = cls.here(device)
        if not Path(path).exists():
            return cls(here)
        profile = cls.read(path)
        differing = [key for key in here if profile.where.get(key) != here[key]]
        if differing:
            shown = '; '.join(
                f'{key}: {profile.where.get(key)!r}, here {here[key]!r}' for key in differing
            )
            raise ConfigError(
                f'The profile {os.fspath(path)!r} was measured elsewhere ({shown}); give '
                'another file, or set the same number of threads'
            )
        return profile

    def add(self, key: str, seconds: list[float]) -> None:
        """Add the times of several runs."""
        low, median, high = np.percentile(seconds, [25, 50, 75])
        self.entries[key] = {
            'median': float(median),
            'spread': float(high - low) / 2,
            'runs': len(seconds),
        }

    def write(self, path: Any) -> None:
        """Write the file; one that is there is replaced in one go.

        Raises:
            ConfigError: It cannot be written.
        """
        target = Path(path)
        content = {'version': _VERSION, **vars(self)}
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_durably(target, json.dumps(content, indent=1))
        except OSError as error:
            raise ConfigError(
                f'The profile {os.fspath(path)!r} cannot be written: {error.strerror}'
            ) from error
