"""The site of the docs: it is built without a warning, offline, and leads to every page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
PAGES = sorted(page.stem for page in DOCS.glob('*.md') if page.stem != 'index')

pytest.importorskip('sphinx')


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going']
    command += ['-d', str(folder / 'doctrees'), str(DOCS), str(folder / 'html')]
    # No package index, no inventory: whoever asks the network is refused.
    proxies = dict.fromkeys(('http_proxy', 'https_proxy'), 'http://127.0.0.1:9')
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **proxies}, check=False
    )
    assert result.returncode == 0, result.stderr
    return folder / 'html'


def test_the_index_leads_to_every_page() -> None:
    text = (DOCS / 'index.md').read_text(encoding='utf-8')
    linked = re.findall(r'^- \[[^\]]+\]\((\w+)\.(?:md|ipynb)\)', text, re.MULTILINE)
    assert len(linked) == len({*linked})
    assert {*linked} >= {*PAGES}, f'docs/index.md lacks {sorted({*PAGES} - {*linked})}'


def test_the_site_has_every_page(site: Path) -> None:
    front = (site / 'index.html').read_text(encoding='utf-8')
    for page in PAGES:
        assert (site / f'{page}.html').is_file()
        assert f'href="{page}.html"' in front.split('<article')[0], f'{page}: not in the menu'


def test_the_site_needs_no_network(site: Path) -> None:
    for page in site.rglob('*.html'):
        text = page.read_text(encoding='utf-8')
        loaded = re.findall(
            r'<(?:script|img|link|iframe)[^>]+(?:src|href)="(https?:[^"]+)', text
        )
        assert loaded == [], page


def test_formulas_are_drawn_by_the_browser(site: Path) -> None:
    text = (site / 'algorithms.html').read_text(encoding='utf-8')
    source = (DOCS / 'algorithms.md').read_text(encoding='utf-8')
    assert text.count('display="block"') == source.count('$$') // 2 > 5
    assert '$$' not in text


def test_links_to_files_elsewhere_show_them(site: Path) -> None:
    algorithms = (site / 'algorithms.html').read_text(encoding='utf-8')
    assert 'href="source/configs/darts/digits.py.html"' in algorithms
    shown = (site / 'source/configs/darts/digits.py.html').read_text(encoding='utf-8')
    assert '_base_' in shown
    assert not (site / '_downloads').exists()


def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    for page in site.rglob('*.html'):
        text = page.read_text(encoding='utf-8')
        for target in re.findall(r'<a [^>]*href="([^"#]+)', text):
            if not re.match(r'\w+:', target):
                assert (page.parent / target).exists(), f'{page.relative_to(site)}: {target}'
