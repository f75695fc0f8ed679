"""How much memory a step or a whole run needs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

__all__ = ['PeakMemory', 'peak_bytes', 'peak_of_process']


def peak_bytes(run: Callable[[], object], device: torch.device | str = 'cpu') -> int:
    """Return the most bytes of tensors that a call holds beyond what is there when it begins.

    On a CUDA device the allocator counts, elsewhere the profiler does: it makes
    the call several times slower, and writes to the standard error unless
    ``KINETO_LOG_LEVEL=99`` is in the environment when torch is imported.

    Args:
        run: What to call, once; what it returns is thrown away.
        device: Where it computes.

    >>> peak_bytes(lambda: torch.zeros(1000))
    4000
    """
    if torch.device(device).type == 'cuda':
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    held = peak = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted(events, key=lambda e: e.start_ns()):
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak


class PeakMemory(NamedTuple):
    """The most memory that was held at once.

    Attributes:
        num_bytes: How much.
        what: What was counted.
    """

    num_bytes: int
    what: str

    def __str__(self) -> str:
        """Return it in MiB, such as ``'512 MiB (resident set of the process)'``."""
        return f'{self.num_bytes / 2**20:.0f} MiB ({self.what})'


def peak_of_process(device: torch.device | str = 'cpu') -> PeakMemory | None:
    """Return the most memory that this process has held at once.

    On a CUDA device that is what its tensors have taken since
    ``torch.cuda.reset_peak_memory_stats``; elsewhere it is the resident set,
    with the interpreter, libraries and data, since the process began; or
    ``None`` where the system does not tell.

    Args:
        device: Where it computes.
    """
    device = torch.device(device)
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
        return PeakMemory(torch.cuda.max_memory_allocated(device), f'tensors on {name}')
    num_bytes = _peak_resident_set()
    return None if num_bytes is None else PeakMemory(num_bytes, 'resident set of the process')


def _peak_resident_set() -> int | None:
    # What `resource` says begins, on Linux, with the size of the process that started this one.
    with suppress(OSError):
        status = Path('/proc/self/status').read_text(encoding='ascii', errors='replace')
        if found := re.search(r'^VmHWM:\s*(\d+) kB$', status, re.MULTILINE):
            return 1024 * int(found[1])
    try:
        import resource
    except ImportError:  # There is none on Windows.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In KiB, but for macOS.
    return peak if sys.platform == 'darwin' else 1024 * peak
