"""Pictures and tables of a search hold its numbers, and are legible with many spaces."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, InputError
from mmrazor_mutators.search.records import EpochFile, SpaceFile
from mmrazor_mutators.search.watching import SpaceLook
from mmrazor_mutators.views.curves import curve_figure, curve_panels
from mmrazor_mutators.views.heat_maps import heat_map_figures, probability_range
from mmrazor_mutators.views.history import History, read_history
from mmrazor_mutators.views.work_dirs import (
    draw_work_dir,
    overview_figures,
    read_work_dir,
    work_dir_table,
)

SPACES = [f'normal_n{node}_p{i}' for node in (2, 3) for i in range(node)]


def shares(space: int, epoch: int, count: int = 3) -> list[float]:
    values = np.exp(0.3 * epoch * np.sin(np.arange(count) + space))
    return (values / values.sum()).tolist()


def noted(folder: Path, epochs: int = 6, spaces: Any = SPACES, **numbers: Any) -> History:
    folder.mkdir(exist_ok=True)
    rows, file = EpochFile(folder / 'epochs.csv'), SpaceFile(folder / 'spaces.csv')
    choices = ('skip_connect', 'sep_conv_3x3', 'a$b$c')
    for epoch in range(1, epochs + 1):
        looks = {}
        for number, space_id in enumerate(spaces):
            kept = 2 if epoch > 4 and number == 0 else 3
            p = tuple(shares(number, epoch, kept))
            looks[space_id] = SpaceLook(choices[:kept], tuple(map(math.log, p)), p)
        looks['node'] = SpaceLook(('p0', 'p1'), None, (1.0, 0.0))
        file.write(epoch, looks)
        told = {'loss': 2 / epoch, 'arch_loss': 3 / epoch, 'entropy': 1 - epoch / 10}
        rows.write(epoch, {**told, **{name: value(epoch) for name, value in numbers.items()}})
    return read_history(folder)


def test_heat_maps_hold_the_probabilities(tmp_path: Path) -> None:
    history = noted(tmp_path)
    (figure,) = heat_map_figures(history)
    *maps, legend = figure.axes
    assert [axes.get_title(loc='left') for axes in maps] == [*SPACES, 'node (chosen)']
    for axes, space_id in zip(maps, [*SPACES, 'node'], strict=True):
        space = history.spaces[space_id]
        (image,) = axes.get_images()
        np.testing.assert_equal(
            image.get_array().filled(math.nan), space.probabilities.T, strict=True
        )
        assert [label.get_text() for label in axes.get_yticklabels()] == list(space.choices)
        limits = probability_range(history) if space.is_learnt else (0, 1)
        assert image.get_clim() == limits
    every = np.concatenate([history.spaces[sid].probabilities.ravel() for sid in SPACES])
    assert probability_range(history) == (np.nanmin(every), np.nanmax(every))
    assert legend.get_images() == []
    # What has left the search is no colour of the map.
    assert np.isnan(history.spaces[SPACES[0]].probabilities[-1]).tolist() == [
        False,
        False,
        True,
    ]


def test_many_spaces_take_several_pages_and_do_not_overlap(tmp_path: Path) -> None:
    ids = [f'layers/{index}/a_rather_long_name_of_a_module/conv1:width' for index in range(100)]
    history = noted(tmp_path, 2, ids)
    pages = heat_map_figures(history)
    assert [len(page.axes) - 1 for page in pages] == [24, 24, 24, 24, 5]
    for page in [pages[0], pages[-1], overview_figures(history, 6)[0]]:
        page.canvas.draw()
        boxes = [axes.get_tightbbox() for axes in page.axes]
        width, height = page.bbox.width, page.bbox.height
        for number, box in enumerate(boxes):
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= width
            assert box.y1 <= height
            assert not [b for b in boxes[:number] if box.overlaps(b)], page.axes[number]


def test_spaces_can_be_chosen(tmp_path: Path) -> None:
    history = noted(tmp_path)
    (figure,) = heat_map_figures(history, ['node', SPACES[1]])
    titles = [axes.get_title(loc='left') for axes in figure.axes[:2]]
    assert titles == ['node (chosen)', SPACES[1]]
    with pytest.raises(InputError, match="no space 'normal_n2_p7'; did you mean"):
        heat_map_figures(history, ['normal_n2_p7'])
    assert heat_map_figures(History(tmp_path)) == []


def test_curves_hold_the_columns(tmp_path: Path) -> None:
    history = noted(
        tmp_path,
        supernet_accuracy=lambda epoch: 0.1 * epoch,
        network_accuracy=lambda epoch: 0.1 * epoch if epoch % 2 else None,
        cost_params=lambda epoch: 9e5 / epoch,
        found_params=lambda epoch: 8e5 / epoch,
        budget_params=lambda epoch: 3e5,
        cost=lambda epoch: 5.0,
        gpu_hours=lambda epoch: epoch,
        empty=lambda epoch: None,
    )
    panels = curve_panels(history)
    assert [(title, list(lines), limit) for title, lines, limit in panels] == [
        ('losses', ['loss', 'arch_loss'], None),
        ('accuracies', ['supernet_accuracy', 'network_accuracy'], None),
        ('how undecided (entropy, 0 to 1)', ['entropy'], None),
        ('cost against budget: params', ['cost_params', 'found_params'], 3e5),
        ('cost', ['cost'], None),
        ('gpu_hours', ['gpu_hours'], None),
    ]
    figure = curve_figure(history)
    for axes, (_, lines, limit) in zip(figure.axes, panels, strict=True):
        drawn = axes.get_lines()
        assert len(drawn) == len(lines) + (limit is not None)
        for line, values in zip(drawn, lines.values(), strict=False):
            there = np.isfinite(values)
            np.testing.assert_equal(line.get_xdata(), history.epochs['epoch'][there])
            np.testing.assert_equal(line.get_ydata(), values[there])
        # Whoever sees no colours has the dashes.
        assert len({line.get_linestyle() for line in drawn}) == len(drawn)


def lines_of(history: History) -> list[str]:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(work_dir_table(history))
    return capture.get().splitlines()


def test_the_table_fits_a_terminal(tmp_path: Path) -> None:
    ids = [f'layers/{index}/a_rather_long_name_of_a_module/conv1:width' for index in range(40)]
    history = noted(tmp_path, 40, ids, a_name_that_is_longer_than_it_should_be=lambda e: 1e9)
    lines = lines_of(history)
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if 'skip_conn…' in line]
    told = [line.split() for line in lines if line.lstrip().startswith('layers/')]
    assert len(told) == 30
    margins = [float(row[3]) for row in told]
    assert margins == sorted(margins)
    weakest = min(history.spaces[sid].margins[-1] for sid in ids)
    assert margins[0] == pytest.approx(weakest, abs=5e-4)


def test_the_table_says_who_leads_since_when(tmp_path: Path) -> None:
    tmp_path.mkdir(exist_ok=True)
    file = SpaceFile(tmp_path / 'spaces.csv')
    for epoch, p in enumerate([0.6, 0.4, 0.7, 0.3, 0.2], 1):
        file.write(epoch, {'x': SpaceLook(('a', 'b'), (0.0, 0.0), (p, 1 - p))})
    (row,) = [line.split() for line in lines_of(read_history(tmp_path)) if ' b ' in line]
    assert row == ['x', 'b', '0.800', '0.600', '0.722', '4']


def test_work_dirs_that_are_broken_or_empty(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'nothing to show in .*epochs\.csv is not there'):
        read_work_dir(tmp_path)
    noted(tmp_path)
    data = (tmp_path / 'spaces.csv').read_bytes()
    (tmp_path / 'spaces.csv').write_bytes(data[:-5])
    (tmp_path / 'subnet.yaml').write_text('{normal_n2: [')
    (tmp_path / 'evolution.json').write_text('{"evaluated": [{"epoch": 0}')
    history = read_work_dir(tmp_path)
    assert 'note: spaces.csv: 1 rows are not whole' in lines_of(history)
    written, notes = draw_work_dir(history, tmp_path / 'out')
    names = ['curves.png', 'curves.svg', 'heat_maps.png', 'heat_maps.svg']
    assert [path.name for path in written] == names
    assert all(path.stat().st_size for path in written)
    (note,) = notes
    assert note.startswith('the network is not drawn: ')


def test_pictures_go_into_a_folder_or_a_file(tmp_path: Path) -> None:
    history = noted(tmp_path / 'run', 2, [f'a{index}' for index in range(24)])
    mm.dump_subnet({'n1_p0': {'chosen': ['skip_connect']}}, tmp_path / 'run' / 'subnet.yaml')
    written, notes = draw_work_dir(history, tmp_path / 'one.svg')
    assert [path.name for path in written] == ['one.svg', 'one_2.svg']
    assert notes == []
    text = (tmp_path / 'one.svg').read_text()
    assert 'a0</text>' in text
    written, notes = draw_work_dir(history, tmp_path / 'out')
    assert [path.name for path in written if path.suffix == '.png'] == [
        'curves.png',
        'heat_maps_1.png',
        'heat_maps_2.png',
        'network.png',
    ]
    assert notes == []
    with pytest.raises(ConfigError, match=r"to end in one of \.pdf, .*, but got '.*a\.jpg'"):
        draw_work_dir(history, tmp_path / 'a.jpg')


def test_networks_are_drawn_layer_by_layer_if_their_config_builds(tmp_path: Path) -> None:
    linear = {'type': 'torch.nn.Linear', 'in_features': 3, 'out_features': 4}
    supernet = {
        'type': 'Searchable',
        'model': [linear, {**linear, 'in_features': 4}],
        'rules': [{'match': '0', 'width': [2, 4]}],
        'example_inputs': [1, 3],
    }
    model = {'type': 'Darts', 'architecture': supernet, 'mutator': {'type': 'DartsMutator'}}
    mm.dump_subnet({'0': {'chosen': ['w2']}}, tmp_path / 'subnet.yaml')
    texts = {}
    for config in (f'model = {model}', 'model = ('):
        (tmp_path / 'config.py').write_text(config)
        written, notes = draw_work_dir(read_work_dir(tmp_path), tmp_path / 'out')
        assert [path.name for path in written] == ['network.png', 'network.svg']
        texts[(tmp_path / 'out' / 'network.svg').read_text()] = notes
    (layers, none), (table, (note,)) = texts.items()
    assert none == []
    assert '2 of 4' in layers
    assert '2 of 4' not in table
    assert note.startswith('the network is drawn without its layers: ')
    assert 'is not valid Python' in note


def test_an_evolution_is_told_by_generations(tmp_path: Path) -> None:
    scores = [[50.0, 60.0, 70.0], [65.0, 66.0]]
    evaluated = [
        {'epoch': epoch, 'score': score} for epoch, row in enumerate(scores) for score in row
    ]
    (tmp_path / 'evolution.json').write_text(json.dumps({'evaluated': evaluated}))
    rows = [line.split() for line in lines_of(read_work_dir(tmp_path))]
    assert ['1', '3', '60.0%', '70.0%'] in rows
    assert ['2', '2', '65.5%', '70.0%'] in rows
