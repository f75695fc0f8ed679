"""The site of the docs: it is built without a warning, offline, and leads to every page."""

from __future__ import annotations

import base64
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmrazor_mutators as mm

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
FILES = [*DOCS.glob('*.md'), *DOCS.glob('*.ipynb')]
PAGES = sorted(page.stem for page in FILES if page.stem != 'index')

pytest.importorskip('sphinx')


def build(folder: Path, source: Path = DOCS) -> Path:
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going']
    command += ['-d', str(folder / 'doctrees'), str(source), str(folder / 'html')]
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


def test_the_site(tmp_path: Path) -> None:
    # One test: to build it takes a quarter of a minute.
    site = build(tmp_path)
    check_menu(site)
    check_nothing_is_fetched(site)
    check_formulas(site)
    check_files_elsewhere(site)
    check_api(site)
    check_links(site)


def test_a_notebook_is_a_page(tmp_path: Path) -> None:
    source = tmp_path / 'source'
    source.mkdir()
    (source / 'conf.py').write_text(
        f'import sys\nsys.path.insert(0, {str(DOCS)!r})\n'
        "extensions = ['myst_parser', '_sphinx.notebooks']\n"
    )
    png = base64.b64encode(b'a picture').decode()
    outputs = [
        {'output_type': 'stream', 'name': 'stdout', 'text': ['printed\n', 'twice\n']},
        {'output_type': 'display_data', 'data': {'image/png': png, 'text/plain': ['<Figure>']}},
        {
            'output_type': 'execute_result',
            'data': {'text/html': ['<table>1</table>']},
        },
        {'output_type': 'execute_result', 'data': {'text/plain': ['12']}},
    ]
    cells = [
        {'cell_type': 'markdown', 'source': ['# A title\n', '\n', 'with *text*']},
        {'cell_type': 'code', 'source': ['1 / 0  # not run'], 'outputs': outputs},
        {'cell_type': 'code', 'source': [], 'outputs': []},
    ]
    (source / 'index.ipynb').write_text(json.dumps({'cells': cells, 'metadata': {}}))
    site = build(tmp_path, source)
    page = (site / 'index.html').read_text(encoding='utf-8')
    for shown in (
        '<h1>A title',
        '<em>text</em>',
        'printed',
        'twice',
        '"docutils"><b>cell</b>',
        '12',
    ):
        assert shown in page, shown
    assert '&lt;Figure&gt;' not in page
    (picture,) = re.findall(r'src="(_images/[^"]+)"', page)
    assert (site / picture).read_bytes() == b'a picture'


def check_menu(site: Path) -> None:
    menu = (site / 'index.html').read_text(encoding='utf-8').split('<article')[0]
    for page in PAGES:
        assert (site / f'{page}.html').is_file()
        assert f'href="{page}.html"' in menu, f'{page}: not in the menu'


def check_nothing_is_fetched(site: Path) -> None:
    tags = re.compile(r'<(?:script|img|link|iframe)[^>]+(?:src|href)="(https?:[^"]+)')
    for page in site.rglob('*.html'):
        assert tags.findall(page.read_text(encoding='utf-8')) == [], page


def check_formulas(site: Path) -> None:
    text = (site / 'algorithms.html').read_text(encoding='utf-8')
    source = (DOCS / 'algorithms.md').read_text(encoding='utf-8')
    assert text.count('display="block"') == source.count('$$') // 2 > 5
    assert '$$' not in text


def check_files_elsewhere(site: Path) -> None:
    algorithms = (site / 'algorithms.html').read_text(encoding='utf-8')
    assert 'href="source/configs/darts/digits.py.html"' in algorithms
    shown = (site / 'source/configs/darts/digits.py.html').read_text(encoding='utf-8')
    assert 'href="../_base_/darts_digits.py.html"' in shown
    assert (site / 'source/configs/_base_/digits.py.html').is_file()
    assert not (site / '_downloads').exists()


def check_api(site: Path) -> None:
    names = (site / 'api.html').read_text(encoding='utf-8')
    for name in {*mm.__all__} - {'NASError', '__version__'}:
        assert f'#mmrazor_mutators.{name}"' in names, name
    extensions = (site / 'api' / 'extensions.html').read_text(encoding='utf-8')
    for hook in (
        name for name, value in vars(mm.Extension).items() if inspect.isroutine(value)
    ):
        assert f'id="mmrazor_mutators.Extension.{hook}"' in extensions, hook


def check_links(site: Path) -> None:
    for page in site.rglob('*.html'):
        text = page.read_text(encoding='utf-8')
        for target in re.findall(r'<a [^>]*href="([^"#]+)', text):
            if not re.match(r'\w+:', target):
                assert (page.parent / target).exists(), f'{page.relative_to(site)}: {target}'
