"""Which checkpoint of a work directory a run goes on from: the newest one that is whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from ..blame import reason_of
from ..durable import write_durably
from ..errors import ConfigError
from .seals import Facts, check_whole, read_facts

__all__ = [
    'RUN_NUMBER',
    'STOPPED',
    'Found',
    'has_begun',
    'latest_facts',
    'newest_checkpoint',
    'next_run',
    'set_hint',
]

STOPPED = 'stopped.pth'
"""Written when a signal ends a run; the next checkpoint replaces it."""

_HINT = 'last_checkpoint'
RUN_NUMBER = 'run_number'


class Found(NamedTuple):
    """What there is to go on from.

    Attributes:
        path: The newest checkpoint that is whole; ``None`` if there is none.
        facts: What it says of itself.
        skipped: Why others were not taken, a phrase each.
    """

    path: Path | None
    facts: Facts
    skipped: list[str]


def set_hint(work_dir: Path, checkpoint: Path) -> None:
    """Write down where the latest checkpoint is, for other programs and other folders."""
    write_durably(work_dir / _HINT, str(checkpoint))


def has_begun(work_dir: Path) -> bool:
    """Whether a run was begun here, though it may not have come to a checkpoint."""
    return (work_dir / 'config.py').is_file() or any(_candidates(work_dir))


def next_run(work_dir: Path) -> int:
    """Return the number of a run that begins anew here, and keep it.

    Checkpoints of earlier runs stay, but are not gone on from any more.
    """
    number = 1 + _last_run(work_dir, _facts_of(work_dir)[0])
    write_durably(work_dir / RUN_NUMBER, f'{number}\n')
    (work_dir / _HINT).unlink(missing_ok=True)
    return number


def latest_facts(work_dir: Path) -> tuple[Facts | None, list[str]]:
    """Return what the newest checkpoint of the last run says of itself, and what is broken.

    It is not read as a whole: whether it can be gone on from, :func:`newest_checkpoint` tells.
    """
    sealed, _, broken = _facts_of(work_dir)
    run = _last_run(work_dir, sealed)
    ours = [facts for facts in sealed.values() if facts.run == run]
    return max(ours, key=lambda facts: facts[1:], default=None), broken


def newest_checkpoint(work_dir: Path) -> Found:
    """Return the checkpoint to go on from; it is looked at what is there.

    The last checkpoint of the latest run is taken whose checksum is right, or which
    has none, as those of earlier versions, but can be read.
    """
    sealed, unsealed, skipped = _facts_of(work_dir)
    run = _last_run(work_dir, sealed)
    ours = {path: facts for path, facts in sealed.items() if facts.run == run}
    since = _begin_of_run(work_dir)
    later = [path for path in unsealed if path.stat().st_mtime >= since]
    ours.update(_read_all(later, run, skipped))
    for path, facts in _newest_first(ours):
        reason = _reason(path)
        if reason is None:
            return Found(path, facts, skipped)
        skipped.append(f'{path.name}: {reason}')
    named = _hinted(work_dir)
    if named is not None and not named.exists() and not skipped:
        skipped.append(f'{named.name} is gone')
    return Found(None, Facts(run, 0, 0), skipped)


def _newest_first(found: dict[Path, Facts]) -> list[tuple[Path, Facts]]:
    # The same state has two names, of which that with the number comes first.
    return sorted(found.items(), key=lambda item: (*item[1][1:], item[0].name), reverse=True)


def _facts_of(work_dir: Path) -> tuple[dict[Path, Facts], list[Path], list[str]]:
    """Return what seals say, the files without one, and why files cannot be read."""
    sealed: dict[Path, Facts] = {}
    unsealed, broken = [], []
    for path in _candidates(work_dir):
        try:
            facts = read_facts(path)
        except ConfigError as error:
            broken.append(f'{path.name}: {error}')
            continue
        if facts is None:
            unsealed.append(path)
        else:
            sealed[path] = facts
    return sealed, unsealed, broken


def _candidates(work_dir: Path) -> Iterator[Path]:
    """Yield each file that may be a checkpoint to go on from, once."""
    named = _hinted(work_dir)
    # A work directory that was moved has a hint at the old place, which may be another's.
    elsewhere = named is not None and not any(work_dir.glob('*.pth'))
    folder = named.parent if named is not None and elsewhere else work_dir
    seen = set()
    # With "last.pth" last, it is left out where it is another name of one of them.
    for path in sorted(folder.glob('*.pth'), key=lambda path: (path.name == 'last.pth', path)):
        if path.name.startswith(('.', 'best_')) or not path.is_file():
            continue
        status = path.stat()
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            yield path


def _hinted(work_dir: Path) -> Path | None:
    """Return what was the latest checkpoint, in the folder where the config wants them."""
    try:
        return Path((work_dir / _HINT).read_text(encoding='utf-8').strip())
    except (OSError, ValueError):
        return None


def _begin_of_run(work_dir: Path) -> float:
    """Return when the last run began anew here, in seconds since 1970."""
    try:
        return (work_dir / RUN_NUMBER).stat().st_mtime
    except OSError:
        return 0.0


def _last_run(work_dir: Path, sealed: dict[Path, Facts]) -> int:
    try:
        kept = int((work_dir / RUN_NUMBER).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        kept = 0
    return max([kept, *(facts.run for facts in sealed.values())])


def _reason(path: Path) -> str | None:
    """Return why a checkpoint is not whole, or ``None`` if it is."""
    try:
        check_whole(path)
    except (ConfigError, OSError) as error:
        return str(error)
    return None


def _read_all(paths: list[Path], run: int, skipped: list[str]) -> dict[Path, Facts]:
    """Return the facts of checkpoints without a seal, of those that can be gone on from."""
    found = {}
    for path in paths:
        reason = _reason(path)
        if reason is not None:
            skipped.append(f'{path.name}: {reason}')
            continue
        try:
            content = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
            meta = content['meta']
            if not isinstance(meta, Mapping):
                raise ConfigError(
                    f'expected `meta` to be a mapping, but got {type(meta).__name__}'
                )
            if 'optimizer' in content:
                found[path] = Facts(run, int(meta['iter']), int(meta['epoch']))
        except Exception as error:  # Unpickling raises whatever a broken file leads to.
            skipped.append(f'{path.name}: {reason_of(error)}')
    return found
