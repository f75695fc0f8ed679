"""Any network found, layer by layer, as a table and as a picture."""

from __future__ import annotations

from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch
from rich.console import Console
from torch import Tensor, nn

import mmrazor_mutators as mm
from mmrazor_mutators import cli
from mmrazor_mutators.costs import build_cost_model
from mmrazor_mutators.errors import ConfigError, InputError, SubnetError
from mmrazor_mutators.views.draw_networks import draw_network, network_figure
from mmrazor_mutators.views.network_rows import network_table
from mmrazor_mutators.views.networks import view_network

CONFIG = 'configs/searchable/digits_convnet.py'


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.act, self.conv2 = nn.ReLU(), nn.Conv2d(16, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.act(self.bn1(self.conv1(x))))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.blocks = nn.ModuleList([Block(8) for _ in range(3)])
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


RULES: list[dict[str, Any]] = [
    {'match': 'blocks.*.conv1', 'width': [4, 16], 'kernel_size': [1, 3]},
    {'match': ['blocks.1', 'blocks.2'], 'depth': True},
    {'match': 'blocks.0.act', 'activation': ['silu']},
]


def searched(**chosen: str) -> tuple[Any, dict[str, Any]]:
    """Return a supernet and the subnet of the original with some other choices."""
    supernet = mm.make_searchable(Net(), RULES, torch.randn(2, 3, 9, 9))
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    subnet = mutator.random_subnet(0)
    for space_id, space in mutator.search_spaces.items():
        names = space['choice_names']
        original = getattr(space['modules'][0], 'original', None) or names[-1]
        subnet[space_id] = {'chosen': [chosen.get(space_id, original)]}
    return supernet, subnet


def spaces_of(row: Any) -> dict[str, tuple[str, ...]]:
    return {decision.space_id: decision.chosen for decision in row.decisions}


def test_rows_widths_and_costs_are_those_of_the_network() -> None:
    supernet, subnet = searched()
    width = next(sid for sid, entry in subnet.items() if entry['chosen'] == ['w16'])
    subnet[width] = {'chosen': ['w4']}
    view = view_network(supernet, subnet)
    chosen = {sid: entry['chosen'] for sid, entry in subnet.items()}
    assert view.params == build_cost_model(supernet, 'params').of(chosen)
    one = torch.randn(1, 3, 9, 9)
    assert view.macs == build_cost_model(supernet, 'macs', one).of(chosen)
    rows = {row.name: row for row in view.rows}
    row = rows['blocks.0.conv1']
    assert (row.out_features, row.full_features, row.in_features) == (4, 16, 8)
    assert row.kinds == ['Conv2d 3x3', 'BatchNorm2d']
    assert row.params == 8 * 4 * 9 + 4 + 8
    assert row.macs == 16 * 8 * 4 * 9
    assert row.output == (4, 4, 4)
    assert spaces_of(row)[width] == ('w4',)
    assert rows['blocks.1.conv1'].full_features == rows['blocks.1.conv1'].out_features == 16
    assert rows['stem'].kinds == ['Conv2d 3x3 /2']
    assert sum(row.params for row in view.rows) == view.params
    assert sum(row.macs for row in view.rows) == view.macs
    names = [row.name for row in view.rows]
    assert names[0] == 'stem'
    assert names[-1] == 'fc'
    assert names.index('blocks.0.conv1') < names.index('blocks.0.conv2')


def test_blocks_that_are_left_out_stand_where_they_stood() -> None:
    supernet, subnet = searched()
    depth = [sid for sid, entry in subnet.items() if entry['chosen'] == ['keep']]
    assert len(depth) == 2
    subnet[depth[0]] = {'chosen': ['skip']}
    view = view_network(supernet, subnet)
    index = next(i for i, row in enumerate(view.rows) if row.is_left_out)
    row = view.rows[index]
    assert (row.name, row.params, row.macs) == ('blocks.1', 0, 0)
    assert row.decisions[0].chosen == ('skip',)
    assert row.decisions[0].left_out == ('keep',)
    assert view.rows[index - 1].name == 'blocks.0.conv2'
    assert view.rows[index + 1].name == 'blocks.1.conv1'  # The third of the original.
    assert spaces_of(view.rows[index + 1])[depth[1]] == ('keep',)


def text_of(table: Any) -> str:
    console = Console(width=140, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def test_table_and_picture_say_it_all(tmp_path: Path) -> None:
    supernet, subnet = searched()
    depth = [sid for sid, entry in subnet.items() if entry['chosen'] == ['keep']]
    subnet[depth[1]] = {'chosen': ['skip']}
    view = view_network(supernet, subnet)
    table = text_of(network_table(view))
    figure = network_figure(view)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    written = {text.get_text() for text in axes.texts}
    for row in view.rows:
        assert row.name in table
        assert row.name in written
    assert f'Net: {view.params:,} parameters' in table
    assert any(words.startswith(f'Net: {view.params:,} parameters') for words in written)
    boxes = [p for p in axes.patches if isinstance(p, FancyBboxPatch)]
    assert len(boxes) == len(view.rows)
    assert sum(p.get_linestyle() == '--' for p in boxes) == 1
    renderer = figure.canvas.get_renderer()
    extents = [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
    for one, other in combinations(extents, 2):
        assert not one.overlaps(other)
    for extent in extents:
        assert figure.bbox.contains(extent.x0, extent.y0)
        assert figure.bbox.contains(extent.x1, extent.y1)
    for suffix in ('png', 'svg', 'pdf'):
        draw_network(view, tmp_path / 'new' / f'net.{suffix}')
    assert '>blocks.2<' in (tmp_path / 'new' / 'net.svg').read_text().replace('\n', '')


def test_nothing_in_the_supernet_changes() -> None:
    supernet, subnet = searched()
    x, before = torch.randn(2, 3, 9, 9), str(supernet)
    with torch.no_grad():
        expected = supernet.eval()(x)
        view_network(supernet, subnet)
        torch.testing.assert_close(supernet(x), expected, rtol=0, atol=0)
    assert str(supernet) == before


def test_errors(tmp_path: Path) -> None:
    supernet, subnet = searched()
    with pytest.raises(SubnetError, match="space 'nope'"):
        view_network(supernet, {**subnet, 'nope': {'chosen': ['a']}})
    with pytest.raises(InputError, match='do not pass Net'):
        view_network(supernet, subnet, torch.randn(1, 4, 9, 9))
    with pytest.raises(ConfigError, match=r"to end in .*\.png.* 'net\.jpg'"):
        draw_network(view_network(supernet, subnet), 'net.jpg')


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mmrazor_mutators.engine.config import load_config
    from mmrazor_mutators.engine.picturing import network_of_config

    supernet, _ = network_of_config(load_config(CONFIG, []))
    mutator = mm.RandomMutator()
    mutator.prepare_from_supernet(supernet)
    mm.dump_subnet(mutator.random_subnet(0), tmp_path / 'subnet.yaml')
    words = ['show', str(tmp_path / 'subnet.yaml'), '--config', CONFIG]
    assert cli.main(words) == 0
    assert 'multiply-adds' in capsys.readouterr().out
    assert cli.main([*words, '--out', str(tmp_path / 'net.png')]) == 0
    assert capsys.readouterr().out == f'Wrote {tmp_path / "net.png"}\n'
    assert (tmp_path / 'net.png').read_bytes().startswith(b'\x89PNG')
