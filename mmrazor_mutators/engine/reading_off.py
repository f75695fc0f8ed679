"""What a search has found, when it is over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from rich.console import Console

from ..durable import write_durably
from ..errors import NASError
from ..extensions import agree_with_clock
from ..mutables import dump_subnet
from ..typing import Subnet

__all__ = ['read_off', 'said_by_clock']

_CLOCK = 'clock.json'
"""What a clock said of the network found, where there is a budget of milliseconds."""


def said_by_clock(work_dir: Path) -> tuple[float, float] | None:
    """Return limit and milliseconds of what was found; ``None`` where nothing was timed."""
    try:
        said = json.loads((work_dir / _CLOCK).read_text(encoding='utf-8'))
        return float(said['limit']), float(said['takes'])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_off(model: Any, work_dir: Path, console: Console) -> Subnet:
    """Return the subnet of a search, and write it with what a clock has said of it.

    Args:
        model: After the search.
        work_dir: Gets ``subnet.yaml``, and ``clock.json`` where milliseconds are limited.
        console: Is told what was timed, and where a clock could not be asked.
    """
    subnet: Subnet | None = None
    if is_main_process():
        try:
            said = agree_with_clock(model.mutator, model.architecture, report=console.print)
        except NASError as error:
            # The network by the profile is better than none.
            console.print(f'[yellow]By the profile alone:[/] {error}', highlight=False)
            said = None
        subnet = model.mutator.search_subnet()
        if said is None:
            (work_dir / _CLOCK).unlink(missing_ok=True)  # Of a run before, of another network.
        else:
            text = json.dumps(said._asdict(), indent=2) + '\n'
            write_durably(work_dir / _CLOCK, text)
        dump_subnet(subnet, work_dir / 'subnet.yaml')
    shared: list[Any] = [subnet]
    broadcast_object_list(shared)
    found: Subnet = shared[0]
    return found
