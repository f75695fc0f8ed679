"""Figures as SVG within a page, in the colours of the page."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from ..canvas import svg_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['COLORS', 'inline_svg']

COLORS = {
    '#24292f': 'ink',
    '#f3f4f6': 'box',
    '#ffffff': 'paper',
    '#9aa0a6': 'gray',
    '#5a6472': 'other',
    '#2e8b57': 'green',
    '#d9730d': 'orange',
    '#8e44ad': 'purple',
    '#1f6fb2': 'blue',
    '#0f8a94': 'teal',
    '#eef6f0': 'tint',
    '#000000': 'ink',
    '#262626': 'ink',
    '#b0b0b0': 'grid',
    '#cccccc': 'grid',
    '#e4e6e9': 'grid',
    '#0072b2': 'c1',
    '#d55e00': 'c2',
    '#009e73': 'c3',
    '#cc79a7': 'c4',
    '#56b4e9': 'c5',
    '#e69f00': 'c6',
}
"""By the colour that a picture is drawn in the name of the one that the page has for it."""

_COLOR = re.compile(r'#[0-9a-f]{6}\b', re.IGNORECASE)
_REFERENCE = re.compile(r'url\(#')
_ILLEGAL = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')
_FAMILY = re.compile(r'font-family: [^;]*')
_DROPPED = {'metadata', 'style', 'title'}
_PIXELS = 96 / 72


def inline_svg(figure: Figure, label: str, prefix: str) -> Markup:
    """Return a figure as an ``svg`` element that needs nothing from outside.

    Args:
        figure: Its colours of :data:`COLORS` become those of the page, light or dark.
        label: Says what it shows to whoever cannot see it.
        prefix: Of all names in it, which have to differ within a page.

    >>> from matplotlib.figure import Figure
    >>> figure = Figure(figsize=(2, 1))
    >>> _ = figure.text(0.5, 0.5, '<script>', color='#24292f')
    >>> svg = inline_svg(figure, 'An "example"', 'a-')
    >>> print(svg[:65])
    <svg viewBox="0 0 144 72" role="img" aria-label="An &quot;example
    >>> '&lt;script&gt;' in svg, '<script>' in svg, 'fill: var(--ink)' in svg
    (True, False, True)
    """
    figure.patch.set_alpha(0)
    text = StringIO()
    with svg_settings(), warnings.catch_warnings():
        # Text is written as text: the browser has the letters that a font here lacks.
        warnings.filterwarnings('ignore', 'Glyph .* missing', UserWarning)
        figure.savefig(text, format='svg', metadata={'Date': None})
    root = ElementTree.fromstring(_ILLEGAL.sub('', text.getvalue()))
    for element in _cleaned(root):
        element.tag = _local(element.tag)
        element.attrib = {
            _local(key): _changed(_local(key), value, prefix)
            for key, value in element.attrib.items()
        }
    box = ' '.join(f'{float(number):g}' for number in root.attrib['viewBox'].split())
    width = float(box.split()[2]) * _PIXELS
    root.attrib = {
        'viewBox': box,
        'role': 'img',
        'aria-label': label,
        'style': f'--width:{width:.0f}px',
    }
    root.tail = None
    # Autoescaping must not touch it: names in it were escaped when it was written.
    return Markup(ElementTree.tostring(root, encoding='unicode'))


def _cleaned(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Drop what the page has of its own, and yield the elements that are left."""
    yield root
    for child in list(root):
        if not isinstance(child.tag, str) or _local(child.tag) in _DROPPED:
            root.remove(child)
            continue
        yield from _cleaned(child)


def _local(name: str) -> str:
    return name.rpartition('}')[2]


def _changed(key: str, value: str, prefix: str) -> str:
    if key == 'id':
        return prefix + value
    if key == 'href':
        return f'#{prefix}{value[1:]}' if value.startswith('#') else value
    if key in ('style', 'fill', 'stroke'):
        value = _FAMILY.sub(_family, _COLOR.sub(_color, value))
    return _REFERENCE.sub(f'url(#{prefix}', value)


def _family(match: re.Match[str]) -> str:
    """Return the font of the page in place of those of matplotlib, which few have."""
    return f'font-family: var(--{"mono" if "mono" in match[0].lower() else "sans"})'


def _color(match: re.Match[str]) -> str:
    name = COLORS.get(match[0].lower())
    return match[0] if name is None else f'var(--{name})'
