"""What a page says, section by section."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from ...blame import reason_of
from ...errors import HostError, NASError
from ..curves import curve_figure, curve_panels
from ..describe import describe_subnet
from ..draw import subnet_figure
from ..draw_networks import network_figure
from ..front import UNITS, front_figure
from ..heat_maps import heat_map_figures
from ..network_rows import short, told, widths_of
from ..summaries import summary
from .commands import commands_of
from .figures import evolution_figure
from .inline import inline_svg
from .networks import Networks, compare, look_at, verdict
from .records import Records, Run
from .settings import settings_of, versions_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['Picture', 'content_of']

_BEST = 10
"""How many paths of an evolution a page lists."""


class Picture(NamedTuple):
    """A picture in a page.

    Attributes:
        svg: The picture.
        caption: Below it.
    """

    svg: Markup
    caption: str


class Tile(NamedTuple):
    """A figure that a reader looks for first."""

    label: str
    value: str
    note: str = ''


class _Drawing:
    """Draws pictures, and notes what could not be drawn."""

    def __init__(self, missing: list[str]) -> None:
        self.missing, self._count, self._can = missing, 0, True

    @contextmanager
    def telling(self, label: str) -> Iterator[None]:
        try:
            yield
        except HostError as error:
            if self._can:
                self.missing.append(f'There are no pictures: {error}')
            self._can = False
        except NASError as error:
            self.missing.append(f'{label} cannot be drawn: {error}')
        except Exception as error:  # Drawing what a file says meets whatever stands in it.
            self.missing.append(f'{label} cannot be drawn: {reason_of(error)}')

    def __call__(
        self, label: str, caption: str, draw: Callable[..., Figure], *arguments: Any
    ) -> list[Picture]:
        """Return one picture, or none where it cannot be drawn."""
        pictures = []
        with self.telling(label):
            self._count += 1
            figure = draw(*arguments)
            pictures.append(Picture(inline_svg(figure, label, f'p{self._count}-'), caption))
        return pictures


def content_of(records: Records, build: bool = True) -> dict[str, Any]:
    """Return what the template of a page is filled with.

    Args:
        records: Of a work directory.
        build: Whether to build the networks that its config names, for layers and costs.
    """
    missing = list(records.missing)
    networks = look_at(records, missing.append) if build else Networks()
    draw = _Drawing(missing)
    run, results = records.run, compare(records.results, networks)
    content: dict[str, Any] = {
        'name': records.folder.resolve().name,
        'title': _title(records),
        'subtitle': _subtitle(run),
        'tiles': _tiles(records, networks),
        'results': results,
        'verdict': verdict(records.results) if results else '',
        'network': _network(records, networks, draw),
        'curves': _curves(records, draw),
        'spaces': _spaces(records, draw),
        'evolution': _evolution(records, draw),
        'front': _front(records, draw),
        'settings': settings_of(run.values, versions_of(run.folder)) if run else [],
        'configs': [
            (str(each.folder / 'config.py'), each.text)
            for each in (records.search, records.retraining)
            if each is not None and each.text
        ],
        'commands': commands_of(records),
    }
    return {**content, 'missing': missing}


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
        tiles.append(Tile('parameters', f'{networks.view.params:,}', 'of the network found'))
    if networks.view is not None:
        tiles.append(Tile('multiply-adds', short(networks.view.macs), 'for one sample'))
    return tiles


def _network(records: Records, networks: Networks, draw: _Drawing) -> dict[str, Any] | None:
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


def _curves(records: Records, draw: _Drawing) -> list[Picture]:
    history = records.history
    if history is None or not curve_panels(history):
        return []
    caption = 'Losses, accuracies and what the search believed, epoch by epoch.'
    return draw('Curves of the search', caption, curve_figure, history)


def _spaces(records: Records, draw: _Drawing) -> list[Picture]:
    history = records.history
    if history is None or not history.spaces:
        return []
    pictures = []
    with draw.telling('Probabilities of the choices'):
        for figure in heat_map_figures(history):
            label = (
                f'Probabilities of the choices over the epochs, {len(history.spaces)} spaces'
            )
            caption = 'A map for each space: choices from top to bottom, epochs from the left.'
            pictures += draw(label, caption, lambda figure=figure: figure)
    return pictures


def _evolution(records: Records, draw: _Drawing) -> dict[str, Any] | None:
    evolution = records.evolution
    if not evolution or not evolution['evaluated']:
        return None
    evaluated = sorted(evolution['evaluated'], key=lambda entry: -entry['score'])
    costs = [*(evaluated[0].get('costs') or {})]
    rows = [
        (
            str(number + 1),
            f'{entry["score"]:.2f}%',
            str(entry['epoch'] + 1),
            *[short((entry.get('costs') or {}).get(name, 0)) for name in costs],
        )
        for number, entry in enumerate(evaluated[:_BEST])
    ]
    names = [{'flops': 'multiply-adds', 'params': 'parameters'}.get(n, str(n)) for n in costs]
    caption = 'Scores of the paths, with the weights of the supernet.'
    return {
        'pictures': draw('Scores over generations', caption, evolution_figure, evolution),
        'count': len(evaluated),
        'generations': evolution.get('epoch'),
        'columns': ['place', 'score', 'generation', *names],
        'rows': rows,
    }


def _front(records: Records, draw: _Drawing) -> dict[str, Any] | None:
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
