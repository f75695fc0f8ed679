"""A rank that dies: the others say which one it was, and end."""

from __future__ import annotations

import functools
import inspect
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch.distributed as dist

from ..distributed import gathered, rank, world_size
from ..errors import NASError, RankLostError
from .checkpoints import newest_checkpoint

__all__ = ['introduce_ranks', 'is_of_lost_rank', 'naming_lost_ranks']

_P = ParamSpec('_P')
_R = TypeVar('_R')
_SIGNS = re.compile(
    r'gloo|nccl|(closed|reset) by peer|broken pipe|pair closure|timed out (waiting|after)',
    re.IGNORECASE,
)
_PATIENCE = 5.0
"""Seconds in which a rank that lives notices that another one does not."""
_LEAST = 0.5
"""Seconds in which torchrun has ended, and asked all others to end."""

_processes: list[tuple[str, int]] = []
"""Host and number of the process of each rank."""


def introduce_ranks() -> None:
    """Let ranks know each other's processes; all of them call it."""
    _processes[:] = gathered((socket.gethostname(), os.getpid()))


def naming_lost_ranks(job: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a job end with an error that names the rank if one has died."""

    @functools.wraps(job)
    def named(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return job(*args, **kwargs)
        except Exception as error:
            if not is_of_lost_rank(error):
                raise
            bound = inspect.signature(job).bind(*args, **kwargs)
            raise _named(Path(bound.arguments['work_dir'])) from error

    return named


def is_of_lost_rank(error: BaseException) -> bool:
    """Whether an error is what a rank meets when another one does not answer any more."""
    if world_size() == 1 or isinstance(error, RankLostError):
        return False
    current: BaseException | None = error
    for _ in range(20):
        if current is None:
            return False
        ours = isinstance(current, NASError)
        if isinstance(current, getattr(dist, 'DistError', ())) or (
            isinstance(current, RuntimeError) and not ours and _SIGNS.search(str(current))
        ):
            return True
        current = current.__cause__ or current.__context__
    return False


def _named(work_dir: Path) -> RankLostError:
    with _unasked():
        lost, first = _find_lost()
    found = newest_checkpoint(work_dir)
    last = 'there is no checkpoint yet'
    if found.path is not None:
        place = f'epoch {found.facts.epoch}, step {found.facts.step}'
        last = (
            f'the last checkpoint is {found.path} ({place}), from which any number of ranks '
            'can go on'
        )
    who = ' and '.join(map(_introduced, lost)) or 'one of the ranks'
    verb = 'have died or do not answer' if len(lost) > 1 else 'has died or does not answer'
    error = RankLostError(f'{who} {verb}; {last}')
    error.told = not first
    return error


def _introduced(number: int) -> str:
    if number >= len(_processes):
        return f'rank {number}'
    host, process = _processes[number]
    return f'rank {number} (process {process} on {host})'


def _find_lost() -> tuple[list[int], bool]:
    """Return which ranks have died, and whether this rank is the first to say so.

    Each one that notices says so in the store that the ranks have met by.
    """
    others = [number for number in range(world_size()) if number != rank()]
    store = _store()
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    key = f'mmrazor_mutators/lost/{attempt}'
    _of_store(lambda: store and store.set(f'{key}/{rank()}', 'noticed'))
    begun = time.monotonic()
    while True:
        dead = [number for number in others if not _is_alive(number)]
        silent = [number for number in others if not _has_noticed(store, f'{key}/{number}')]
        waited = time.monotonic() - begun
        known = dead or not silent
        if waited > _PATIENCE or (waited > _LEAST and known):
            break
        time.sleep(0.05)
    said = _of_store(lambda: store and store.add(f'{key}/said', 1))
    return dead or silent, said in (1, None)


def _has_noticed(store: Any, key: str) -> bool:
    return bool(_of_store(lambda: store and store.check([key])))


def _of_store(ask: Callable[[], Any]) -> Any:
    """Ask the store; ``None`` if the process that keeps it has died."""
    try:
        return ask()
    except RuntimeError:
        return None


def _store() -> Any:
    """Return the store that torchrun or the first rank keeps, by a connection of its own."""
    address, port = os.environ.get('MASTER_ADDR'), os.environ.get('MASTER_PORT')
    if address is None or port is None:
        return None
    return _of_store(
        lambda: dist.TCPStore(  # type: ignore[attr-defined]
            address,
            int(port),
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=_PATIENCE),
        )
    )


def _is_alive(number: int) -> bool:
    """Whether the process of a rank is there, as far as it can be known from here."""
    if number >= len(_processes):
        return True
    host, process = _processes[number]
    if host != socket.gethostname():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:
        # One that nobody has asked for its exit code yet is there, but does nothing.
        status = Path(f'/proc/{process}/stat').read_text(encoding='utf-8', errors='replace')
    except OSError:
        return True
    return status.rpartition(')')[2].split()[0] != 'Z'


@contextmanager
def _unasked() -> Iterator[None]:
    """Ignore that torchrun asks all others to end when one of them has died."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
