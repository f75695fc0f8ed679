"""Formulas as MathML, which browsers draw themselves: nothing is fetched, no script runs."""

from __future__ import annotations

import html
import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

_LOGGER = logging.getLogger(__name__)


def _mathml(node: nodes.Element, as_block: bool) -> str:
    # Parentheses stretch and sums shrink by themselves.
    text = re.sub(r'\\([Bb]ig+[lr]?|(text|display)style)(?![a-z])', '', node.astext())
    if '\\\\' in text and '\\begin' not in text:
        text = f'\\begin{{aligned}}{text}\\end{{aligned}}'
    try:
        return tex2mathml(text, as_block=as_block)
    except MathError as error:
        _LOGGER.warning('the formula %r is not understood: %s', text, error, location=node)
        return f'<code>{html.escape(text)}</code>'


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer under the name ``mathml``."""
    app.add_html_math_renderer('mathml', (_inline, None), (_block, None))
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
