"""Runs a function in several processes that talk over gloo."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from processes import spawn


def _run_rank(rank: int, world_size: int, job: Callable[[int, int], Any], folder: str) -> None:
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/meeting',
        rank=rank,
        world_size=world_size,
        timeout=datetime.timedelta(seconds=60),
    )
    torch.save(job(rank, world_size), f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()


def results_of(job: Callable[[int, int], Any], world_size: int, folder: Path) -> list[Any]:
    """Return what a function of a module returns in each of some processes.

    Args:
        job: ``(rank, world_size) -> result``.
        world_size: How many.
        folder: An empty one.
    """
    spawn(_run_rank, (world_size, job, str(folder)), world_size)
    paths = [folder / f'rank{rank}.pt' for rank in range(world_size)]
    return [torch.load(path, weights_only=False) for path in paths]
