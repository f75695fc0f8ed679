"""A work directory at a glance: tables for a terminal, pictures for the eye."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..documents import read_text
from ..errors import ConfigError, NASError
from ..host import require_runner
from ..mutables import load_subnet
from .canvas import check_ending, new_figure, save_figure
from .curves import curve_figure, curve_height, draw_curves
from .describe import describe_subnet
from .draw import subnet_figure
from .draw_networks import network_figure
from .heat_maps import (
    SPACES_PER_PAGE,
    draw_heat_maps,
    heat_map_figures,
    heat_map_height,
    probability_range,
)
from .history import History, read_history
from .networks import view_network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['draw_work_dir', 'overview_figures', 'read_work_dir', 'work_dir_table']

_SHOWN = 30
_MAX_BYTES = 2**26  # Of an evolution.
_BARS = '▁▂▃▄▅▆▇█'


def read_work_dir(work_dir: str | os.PathLike[str]) -> History:
    """Read the history of a work directory that has anything to show.

    Args:
        work_dir: Of a search that runs, is over, or was ended.

    Raises:
        ConfigError: There is no such folder, or nothing of a search in it.
    """
    history = read_history(work_dir)
    beside = [history.work_dir / name for name in ('subnet.yaml', 'evolution.json')]
    if history.epochs or history.spaces or any(path.is_file() for path in beside):
        return history
    raise ConfigError(
        f'There is nothing to show in {os.fspath(work_dir)!r}: {"; ".join(history.problems)}; '
        'a search writes them after its first epoch'
    )


def work_dir_table(history: History) -> RenderableType:
    """Lay out how a search fares, for a terminal of 80 columns.

    A line for each number that was noted, with its course, and one for each space, the least
    decided first.

    Args:
        history: Of a search.
    """
    parts: list[RenderableType] = []
    if history.num_epochs:
        parts.append(_table_of_numbers(history))
    learnt = [sid for sid, space in history.spaces.items() if space.is_learnt]
    if learnt:
        parts.append(_table_of_spaces(history, learnt))
    generations = list(_generations(history.work_dir))
    if generations:
        parts.append(_table_of_generations(generations))
    if not parts:
        parts.append(Text('No epoch of a search was noted yet.'))
    parts += [Text(f'note: {problem}') for problem in history.problems if history.epochs]
    return Group(*parts)


def _new_table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify='left', min_width=len(title))
    for name in columns:
        justify: Any = 'left' if name in ('what', 'space', 'leader', 'course') else 'right'
        table.add_column(name, justify=justify, no_wrap=True)
    return table


def _table_of_numbers(history: History) -> Table:
    epochs = history.epochs['epoch']
    count = history.num_epochs
    title = f'{count} epoch{"s" * (count != 1)} noted, the last is {int(epochs[-1])}'
    table = _new_table(title, 'what', 'first', 'last', 'course')
    for name in history.epochs:
        values = history.column(name)
        if name != 'epoch' and values is not None:
            there = values[np.isfinite(values)]
            row = [_shown(there[0]), _shown(there[-1]), _course(there)]
            table.add_row(Text(_short(name, 26)), *row)
    return table


def _table_of_spaces(history: History, learnt: list[str]) -> Table:
    ordered = sorted(learnt, key=lambda sid: history.spaces[sid].margins[-1])
    title = f'{len(learnt)} spaces, the least decided first'
    if len(ordered) > _SHOWN:
        title += f' ({_SHOWN} of them)'
    table = _new_table(title, 'space', 'leader', 'p', 'ahead', 'entropy', 'since')
    for space_id in ordered[:_SHOWN]:
        space = history.spaces[space_id]
        leader = space.leader
        if leader is None:
            continue
        where = space.choices.index(leader)
        table.add_row(
            Text(_short(space_id, 22)),
            Text(_short(leader, 14)),
            f'{space.probabilities[-1, where]:.3f}',
            f'{space.margins[-1]:.3f}',
            f'{space.entropies[-1]:.3f}',
            str(int(space.epochs[_since(space.probabilities, where)])),
        )
    return table


def _since(probabilities: np.ndarray, leader: int) -> int:
    """Return the row from which on a choice has led."""
    row = len(probabilities) - 1
    while row > 0 and probabilities[row - 1, leader] >= np.nanmax(probabilities[row - 1]):
        row -= 1
    return row


def _generations(work_dir: Path) -> Iterator[tuple[int, int, float, float]]:
    """Yield number, paths, median and best so far of each generation of an evolution."""
    best = -np.inf
    try:
        text = read_text(work_dir / 'evolution.json', _MAX_BYTES)
        scored = json.loads(text)['evaluated']
        numbers = sorted({int(entry['epoch']) for entry in scored})
        for number in numbers:
            scores = [float(e['score']) for e in scored if e['epoch'] == number]
            best = max(best, *scores)
            yield number + 1, len(scores), median(scores), best
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # None there, or half of one.


def _table_of_generations(generations: list[tuple[int, int, float, float]]) -> Table:
    table = _new_table(f'Evolution of {len(generations)} generations', 'generation', 'paths')
    for name in ('median', 'best so far'):
        table.add_column(name, justify='right', no_wrap=True)
    for number, paths, middle, best in generations[-_SHOWN:]:
        table.add_row(str(number), str(paths), f'{middle:.1f}%', f'{best:.1f}%')
    return table


def _shown(value: float) -> str:
    return f'{value:,.0f}' if abs(value) >= 1e4 or value == int(value) else f'{value:.4g}'


def _course(values: np.ndarray, width: int = 24) -> str:
    """Draw values as bars, each for as many of them."""
    means = [float(part.mean()) for part in np.array_split(values, min(width, len(values)))]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return ''.join(_BARS[round((mean - low) * scale)] for mean in means)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f'{name[: most - 1]}…'


def overview_figures(history: History, per_page: int = SPACES_PER_PAGE) -> list[Figure]:
    """Draw curves and heat maps on pages: the curves with the first of the heat maps.

    Args:
        history: Of a search.
        per_page: How many spaces a page shows.

    Raises:
        HostError: matplotlib is not installed.
    """
    ids = sorted(history.spaces, key=lambda sid: not history.spaces[sid].is_learnt)
    shown = [(sid, history.spaces[sid]) for sid in ids[:per_page]]
    above = curve_height(history)
    figure = new_figure(11.0, above + (heat_map_height(shown) if shown else 0.0))
    draw_curves(figure, history, 0.0)
    if shown:
        title = 'Probabilities of the choices'
        draw_heat_maps(figure, shown, probability_range(history), above, title)
    rest = ids[per_page:]
    return [figure, *(heat_map_figures(history, rest, per_page) if rest else [])]


def draw_work_dir(
    history: History, out: str | os.PathLike[str]
) -> tuple[list[Path], list[str]]:
    """Draw all that is known of a search.

    Args:
        history: Of the search.
        out: A picture (``.png``, ``.svg`` or ``.pdf``) of curves and heat maps, with further
            pages beside it where there are many spaces; or a folder for ``curves``,
            ``heat_maps`` and ``network``, each as PNG and SVG.

    Returns:
        What was written, and in words what could not be.

    Raises:
        ConfigError: Another ending, or a file that cannot be written.
        HostError: matplotlib is not installed.
    """
    target = Path(out)
    notes: list[str] = []
    if target.suffix and not target.is_dir():
        check_ending(target)
        pages = overview_figures(history)
        names = [target, *(_numbered(target, page) for page in range(2, len(pages) + 1))]
        for figure, path in zip(pages, names, strict=True):
            save_figure(figure, path)
        return names, notes
    figures = [('curves', curve_figure(history))] if history.num_epochs else []
    maps = heat_map_figures(history)
    for page, figure in enumerate(maps, 1):
        figures.append((f'heat_maps{f"_{page}" if len(maps) > 1 else ""}', figure))
    try:
        figures += [('network', figure) for figure in _network(history.work_dir, notes)]
    except NASError as error:
        notes.append(f'the network is not drawn: {error}')
    written = []
    for name, figure in figures:
        for ending in ('.png', '.svg'):
            path = target / f'{name}{ending}'
            save_figure(figure, path)
            written.append(path)
    return written, notes


def _network(work_dir: Path, notes: list[str]) -> Iterator[Figure]:
    """Draw cells as such, and any other network layer by layer, which its config builds."""
    config = work_dir / 'config.py'
    if not (work_dir / 'subnet.yaml').is_file():
        return
    subnet = load_subnet(work_dir / 'subnet.yaml')
    if config.is_file() and not describe_subnet(subnet).cells:
        try:
            require_runner('The network of a config')
            from ..engine.config import load_config
            from ..engine.picturing import network_of_config

            supernet, example = network_of_config(load_config(config))
            yield network_figure(view_network(supernet, subnet, example))
            return
        except NASError as error:
            notes.append(f'the network is drawn without its layers: {error}')
    yield subnet_figure(subnet)


def _numbered(path: Path, page: int) -> Path:
    return path.with_name(f'{path.stem}_{page}{path.suffix}')
