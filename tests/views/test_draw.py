"""Pictures of subnets: everything is written, nothing overlaps, and files are as named."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from mmrazor_mutators.architectures import arch_string_to_subnet
from mmrazor_mutators.errors import ConfigError, HostError, SubnetError
from mmrazor_mutators.views.describe import describe_subnet
from mmrazor_mutators.views.draw import draw_subnet, kind_color, subnet_figure

OPS = ['none', 'skip_connect', 'max_pool_3x3', 'sep_conv_5x5', 'dil_conv_3x3', 'my_op']


def darts(probs: bool = False, num_nodes: int = 4, num_inputs: int = 2) -> dict[str, Any]:
    """Return a subnet in which operations and inputs follow one another in turn."""
    subnet: dict[str, Any] = {}
    for cell in ('normal', 'reduce'):
        for node in range(2, num_nodes + 2):
            inputs = {(len(subnet) + i) % node for i in range(num_inputs)}
            names = [f'{cell}_n{node}_p{i}' for i in inputs]
            subnet[f'{cell}_n{node}'] = {'chosen': names}
            for name in names:
                subnet[name] = {'chosen': [OPS[len(subnet) % len(OPS)]]}
                if probs:
                    subnet[name]['chosen_probs'] = [len(subnet) / 100]
    return subnet


NB201 = arch_string_to_subnet(
    '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|'
)
OTHERS = {'stem': {'chosen': ['wide'], 'chosen_probs': [0.5]}, 'layer $1$': {'chosen': ['a_b']}}
SUBNETS = {
    'darts': darts(),
    'darts with weights': darts(probs=True),
    'darts with all inputs': darts(num_nodes=5, num_inputs=7),
    'nasbench201': NB201,
    'others': OTHERS,
    'mixed': {**darts(), **OTHERS},
    'one edge': {'n1_p0': {'chosen': ['a']}},
}


@pytest.fixture(params=SUBNETS.values(), ids=SUBNETS)
def subnet(request: pytest.FixtureRequest) -> Any:
    return request.param


def texts_of(axes: Any) -> list[str]:
    return sorted(text.get_text() for text in axes.texts)


def test_each_panel_says_everything_about_its_cell(subnet: Any) -> None:
    description = describe_subnet(subnet)
    panels = subnet_figure(subnet).axes
    assert len(panels) == len(description.cells) + bool(description.others)
    for cell, axes in zip(description.cells, panels, strict=False):
        expected = [cell.name, *(f'${n}$' if n[:2] == 'c_' else n for n in cell.nodes)]
        edges = [edge for edge in cell.edges if edge.operation != 'concat']
        expected += ['concat'] * (len(edges) < len(cell.edges))
        for edge in edges:
            weight = '' if edge.weight is None else f' {edge.weight:.2f}'
            expected.append(edge.operation + weight)
        assert texts_of(axes) == sorted(expected)
        arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
        assert len(arrows) == len(cell.edges)
    if description.others:
        assert texts_of(panels[-1]) == sorted(
            ['space', 'choice', 'stem', 'wide 0.50', 'layer $1$', 'a_b']
        )


def boxes_of(axes: Any) -> list[FancyBboxPatch]:
    return [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]


def test_texts_and_boxes_stay_inside_and_apart(subnet: Any) -> None:
    figure = subnet_figure(subnet)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        frame = axes.get_window_extent(renderer)
        texts = [text.get_window_extent(renderer) for text in axes.texts]
        boxes = [box.get_window_extent(renderer) for box in boxes_of(axes)]
        for extents in (texts, boxes):
            for one in extents:
                assert frame.x0 <= one.x0 < one.x1 <= frame.x1
                assert frame.y0 <= one.y0 < one.y1 <= frame.y1
            for one, other in combinations(extents, 2):
                overlap = one.intersection(one, other)
                assert overlap is None or min(overlap.width, overlap.height) < 1
        if len(boxes) > 1 and axes.texts[0].get_text() != 'space':
            inside = [
                any(b.containsx(t.x0) and b.containsx(t.x1) for b in boxes) for t in texts
            ]
            assert all(inside[1:])  # The first one is the title.


def test_arrows_begin_and_end_at_their_nodes() -> None:
    subnet = darts()
    cell, axes = describe_subnet(subnet).cells[0], subnet_figure(subnet).axes[0]
    texts = {text.get_text().strip('$'): text.get_position() for text in axes.texts}
    nodes = {
        name: box
        for box in boxes_of(axes)
        for name in cell.nodes
        if box.get_bbox().contains(*texts[name])
    }
    assert set(nodes) == set(cell.nodes)
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    for edge, arrow in zip(cell.edges, arrows, strict=True):
        outline = arrow._path_original.vertices  # type: ignore[attr-defined]
        (x, y), (end_x, end_y) = outline[0], outline[-1]
        source, target = nodes[edge.source].get_bbox(), nodes[edge.target].get_bbox()
        assert source.x0 <= x <= source.x1
        assert y == pytest.approx(
            source.y1 if edge.operation != 'concat' else sum(source.intervaly) / 2
        )
        assert end_x == pytest.approx(target.x0)
        assert target.y0 < end_y < target.y1
        color = arrow.get_edgecolor()
        if edge.operation != 'concat':
            assert same_color(color, kind_color(edge.operation))
            (label,) = [
                text.get_text()
                for text in axes.texts
                if abs(text.get_position()[1] - end_y) < 1e-6
                and x < text.get_position()[0] < end_x
            ]
            assert label == edge.operation


def test_kinds_have_their_own_colours() -> None:
    assert len({kind_color(operation) for operation in [*OPS, 'nor_conv_1x1']}) == 7
    assert kind_color('sep_conv_3x3') == kind_color('sep_conv_5x5')


@pytest.mark.parametrize(
    ('suffix', 'magic'),
    [('png', b'\x89PNG'), ('svg', b'<?xml'), ('pdf', b'%PDF-'), ('PNG', b'\x89PNG')],
)
def test_formats(suffix: str, magic: bytes, subnet: Any, tmp_path: Any) -> None:
    files = [tmp_path / 'new' / f'{name}.{suffix}' for name in 'ab']
    before = dict(mpl.rcParams)
    draw_subnet(subnet, files[0])
    draw_subnet(subnet, os.fspath(files[1]))
    assert dict(mpl.rcParams) == before
    one, other = (file.read_bytes() for file in files)
    assert one.startswith(magic)
    assert one == other  # No date, no random ids.


def test_an_svg_holds_its_texts_as_texts(tmp_path: Any) -> None:
    draw_subnet({**darts(probs=True), **OTHERS}, tmp_path / 'a.svg')
    svg = (tmp_path / 'a.svg').read_text()
    for text in ['normal', 'reduce', 'output', 'layer $1$', 'wide 0.50']:
        assert f'>{text}</text>' in svg
    for cell in describe_subnet(darts(probs=True)).cells:
        for edge in cell.edges:
            if edge.weight is not None:
                assert f'>{edge.operation} {edge.weight:.2f}</text>' in svg


def test_a_very_long_list_still_fits_a_png(tmp_path: Any) -> None:
    subnet = {f'layer{i}': {'chosen': ['a']} for i in range(800)}
    draw_subnet(subnet, tmp_path / 'long.png')
    size = (tmp_path / 'long.png').read_bytes()[16:24]
    assert int.from_bytes(size[4:], 'big') == pytest.approx(2**14, abs=1)


def test_no_window_and_no_pyplot(tmp_path: Any) -> None:
    code = (
        'import sys\n'
        'from mmrazor_mutators.views.draw import draw_subnet\n'
        "assert 'matplotlib' not in sys.modules\n"
        f'draw_subnet({NB201!r}, {str(tmp_path / "a.png")!r})\n'
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, '-c', code], check=True)
    assert (tmp_path / 'a.png').exists()


@pytest.mark.parametrize('name', ['a.gif', 'a', 'png', 'a.png.txt'])
def test_unknown_endings(name: str, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=rf"one of \.pdf, \.png, \.svg, but got '.*{name}'"):
        draw_subnet(NB201, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_written(tmp_path: Any) -> None:
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'file').touch()
    for name, reason in [('folder.png', 'Is a directory'), ('file/a.svg', 'Not a dir|exists')]:
        with pytest.raises(ConfigError, match=f"Cannot write .*{name}': .*({reason})"):
            draw_subnet(NB201, tmp_path / name)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    with pytest.raises(HostError, match=r'pip install "mmrazor-mutators\[plot\]"'):
        draw_subnet(NB201, tmp_path / 'a.png')


def test_what_is_no_subnet_makes_no_file(tmp_path: Any) -> None:
    with pytest.raises(SubnetError, match=r"'a': expected {'chosen': .*but got None"):
        draw_subnet({'a': None}, tmp_path / 'a.png')  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []
