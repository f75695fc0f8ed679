"""docs/quality.md, from the file of results."""

from __future__ import annotations

from .results import ROOT

PAGE = ROOT / 'docs' / 'quality.md'


def page_of(rows):
    return ''
