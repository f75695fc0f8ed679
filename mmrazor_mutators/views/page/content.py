"""What a page says, section by section."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...errors import NASError
from ..describe import describe_subnet
from ..draw import subnet_figure
from ..draw_networks import network_figure
from ..front import UNITS, front_figure
from ..network_rows import short, told, widths_of
from ..summaries import summary
from .commands import commands_of
from .courses import curves_of, evolution_of, spaces_of, training_of
from .drawing import Drawing
from .logs import versions_of
from .networks import Networks, compare, look_at, verdict
from .records import Records, Run
from .settings import Group, settings_of

__all__ = ['content_of']


class Tile(NamedTuple):
    """A figure that a reader looks for first."""

    label: str
    value: str
    note: str = ''


def content_of(records: Records, build: bool = True) -> dict[str, Any]:
    """Return what the template of a page is filled with.

    Args:
        records: Of a work directory.
        build: Whether to build the networks that its config names, for layers and costs.
    """
    missing = list(records.missing)
    networks = look_at(records, missing.append) if build else Networks()
    draw = Drawing(missing)
    run, results = records.run, compare(records.results, networks)
    runs = [each for each in (records.search, records.retraining) if each is not None]
    sections: dict[str, tuple[str, Callable[..., Any], tuple[Any, ...]]] = {
        'tiles': ('How far it is', _tiles, (records, networks)),
        'network': ('The network', _network, (records, networks, draw)),
        'curves': ('The search', curves_of, (records, draw)),
        'spaces': ('The choices', spaces_of, (records, draw)),
        'training': ('The training', training_of, (records, draw)),
        'evolution': ('The evolution', evolution_of, (records, draw)),
        'front': ('The front', _front, (records, draw)),
        'settings': ('The settings', _settings, (run,)),
        'commands': ('How to go on', commands_of, (records,)),
    }
    content: dict[str, Any] = dict.fromkeys(sections)
    for key, (label, make, arguments) in sections.items():
        with draw.telling(label):
            content[key] = make(*arguments)
    return {
        **content,
        'name': records.folder.resolve().name,
        'title': _title(records),
        'subtitle': _subtitle(run),
        'results': results,
        'verdict': verdict(records.results) if results else '',
        'configs': [(str(each.folder / 'config.py'), each.text) for each in runs if each.text],
        'missing': missing,
    }


def _settings(run: Run | None) -> list[Group]:
    return settings_of(run.values, versions_of(run.folder)) if run is not None else []


def _title(records: Records) -> str:
    if records.search is not None:
        return 'Search report'
    return 'Training report' if records.run is not None else 'Front report'


def _subtitle(run: Run | None) -> str:
    """Say what was searched with what on which data."""
    model = run.values.get('model') if run is not None else None
    if not isinstance(model, dict) or run is None:
        return ''

    def kind(value: Any) -> str:
        return str(value.get('type') or '') if isinstance(value, dict) else ''

    architecture = model.get('architecture')
    network = kind(architecture)
    if isinstance(architecture, dict) and isinstance(architecture.get('model'), dict):
        network = kind(architecture['model'])
    loader = run.values.get('train_dataloader')
    data = kind(loader.get('dataset')) if isinstance(loader, dict) else ''
    words = [kind(model.get('mutator')), network, data]
    return ' · '.join(word.rpartition('.')[2] for word in words if word)


def _tiles(records: Records, networks: Networks) -> list[Tile]:
    tiles = []
    for label, run in (('search', records.search), ('training', records.retraining)):
        if run is not None:
            note = f'process {run.process}' if run.process is not None else ''
            if run.reached is not None:
                of = f' of {run.total}' if run.total is not None else ''
                note = f'{run.unit} {run.reached}{of}'
            tiles.append(Tile(label, run.state, note))
    if records.results:
        found, *others = records.results
        note = f'beside {len(others)} random' if others else 'nothing beside it'
        tiles.append(Tile('test accuracy', f'{found.accuracy:.2f}%', note))
        tiles.append(Tile('parameters', f'{found.parameters:,}', 'trained'))
    elif networks.view is not None:
        tiles.append(Tile('parameters', f'{networks.view.params:,}', 'network found'))
    if networks.view is not None:
        tiles.append(Tile('multiply-adds', short(networks.view.macs), 'for one sample'))
    return tiles


def _network(records: Records, networks: Networks, draw: Drawing) -> dict[str, Any] | None:
    """Return pictures and tables of the network found."""
    if records.subnet is None:
        return None
    view, has_cells = networks.view, True
    try:
        has_cells = bool(describe_subnet(records.subnet).cells)
        sheet = summary(records.subnet)
    except NASError as error:
        draw.missing.append(f'{error}')
        return None
    if view is not None and not has_cells:
        caption = (
            'The layers in their order. Green is what was chosen, gray below it what was not; '
            'bars show the channels that are left, and what a layer costs.'
        )
        pictures = draw('The layers of the network found', caption, network_figure, view)
    elif has_cells:
        caption = 'The operations chosen, on the inputs chosen, from the input to the output.'
        pictures = draw(
            'The cells of the network found', caption, subnet_figure, records.subnet
        )
    else:
        pictures = []
    layers = [
        (
            row.name,
            ', '.join(row.kinds),
            *told(row.decisions),
            widths_of(row),
            '' if row.is_left_out else f'{row.params:,}',
            '' if row.is_left_out else short(row.macs),
        )
        for row in (view.rows if view is not None else ())
    ]
    return {'pictures': pictures, 'choices': sheet, 'layers': layers}


def _front(records: Records, draw: Drawing) -> dict[str, Any] | None:
    if records.front is None:
        return None
    metric, points = records.front
    unit = UNITS.get(metric, metric)
    caption = f'Test accuracy over {unit}; dotted lines are the budgets.'
    rows = [
        (
            f'{p.budget:g}',
            f'{p.limit:,.6g}',
            f'{p.cost:,.6g}',
            f'{p.cost / p.limit:.1%}' if p.limit else '',
            f'{p.accuracy:.2f}%',
        )
        for p in points
    ]
    return {
        'pictures': draw(f'Accuracy over {unit}', caption, front_figure, metric, points),
        'unit': unit,
        'rows': rows,
    }
