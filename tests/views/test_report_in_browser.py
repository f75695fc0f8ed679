"""The page of a work directory as a real browser shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
import tiny_runs

import mmrazor_mutators as mm
from mmrazor_mutators.views.report import load_results

LONG = 'a_name_that_nobody_would_give_but_that_has_no_place_to_break_' * 3

# Contrast as in WCAG 2.2, success criterion 1.4.3.
MEASURE = """
const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const pixel = (color) => {
  context.clearRect(0, 0, 1, 1);
  context.fillStyle = color;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data];
};
const light = (rgb) => {
  const [r, g, b] = rgb.slice(0, 3).map((x) => x / 255)
    .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = pixel(view.getComputedStyle(e).backgroundColor);
    if (color[3] > 250) return color;
  }
  return pixel('white');
};
page.querySelectorAll('details').forEach((each) => { each.open = true; });
const faint = [], cut = [];
let count = 0;
const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const text = walker.currentNode.textContent.trim();
  if (!text || element.closest('style')) continue;
  const style = view.getComputedStyle(element), svg = element.closest('svg');
  const color = pixel(svg ? style.fill : style.color);
  const [a, b] = [light(color), light(ground(element))].sort((x, y) => y - x);
  const contrast = (a + 0.05) / (b + 0.05);
  count += 1;
  if (contrast < 4.5) faint.push([text, contrast]);
  if (svg) {
    const inner = element.getBoundingClientRect(), outer = svg.getBoundingClientRect();
    if (inner.left < outer.left - 2 || inner.right > outer.right + 2) cut.push(text);
  }
}
const wide = [...page.querySelectorAll('body *')].filter((each) =>
  !each.parentElement.closest('.scroll, .config, svg')
  && each.getBoundingClientRect().right > view.innerWidth + 0.5);
return {
  width: view.innerWidth, scroll: page.documentElement.scrollWidth,
  dark: view.matchMedia('(prefers-color-scheme: dark)').matches,
  ground: light(ground(page.body)), count, faint, cut,
  wide: wide.map((each) => each.tagName + ' ' + each.className),
  loaded: view.performance.getEntriesByType('resource').map((each) => each.name),
  headings: [...page.querySelectorAll('h2')].map((each) => each.textContent),
  regions: [...page.querySelectorAll('.scroll')].every((each) => each.tabIndex === 0),
};
"""


@pytest.fixture(scope='module')
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a work directory with something in each section, and long names in it."""
    browser.find_browser()
    folder: Path = tmp_path_factory.mktemp('runs') / LONG[:80]
    assert tiny_runs.search(folder, train_cfg__max_epochs=2) == 0
    trained = folder / 'retrain'
    assert tiny_runs.retrain(trained, folder / 'subnet.yaml', '--compare-random', '1') == 0
    entry: dict[str, Any] = {'score': 3.5, 'costs': {'flops': 1e6, LONG: 2.0}, 'candidate': {}}
    entries = [{**entry, 'epoch': epoch} for epoch in range(3)]
    content = {'epoch': 3, 'evaluated': entries}
    (folder / 'evolution.json').write_text(json.dumps(content))
    (folder / 'front.json').write_text('[]')
    subnet = mm.load_subnet(folder / 'subnet.yaml')
    mm.dump_subnet({**subnet, LONG: {'chosen': [LONG]}}, folder / 'subnet.yaml')
    return folder


@pytest.fixture(scope='module')
def page(work: Path) -> Path:
    return mm.write_report(work)


@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
@pytest.mark.parametrize('width', [360, 1280])
def test_the_page_is_readable(page: Path, tmp_path: Path, width: int, dark: bool) -> None:
    told = browser.look(page, tmp_path, MEASURE, width=width, dark=dark)
    assert (told['width'], told['dark']) == (width, dark)
    assert told['scroll'] <= width
    assert told['wide'] == []
    assert told['faint'] == []
    assert told['cut'] == []
    assert told['count'] > 200
    assert (told['ground'] < 0.1) == dark
    assert told['loaded'] == []
    assert told['regions']
    expected = ['What is missing', 'Result', 'The network found', 'How the search went']
    assert told['headings'][:4] == expected
    assert told['headings'][-2:] == ['Settings', 'How to go on']


def test_random_networks_stand_where_they_belong(
    work: Path, page: Path, tmp_path: Path
) -> None:
    script = """
    const line = page.querySelector('.track').getBoundingClientRect();
    const at = (each) => {
      const box = each.getBoundingClientRect();
      return (box.left + box.width / 2 - line.left) / line.width;
    };
    return Object.fromEntries([...page.querySelectorAll('.track i')]
      .map((each) => [each.className, at(each)]));
    """
    places = browser.look(page, tmp_path, script, width=1280)
    found, other = (r.accuracy for r in load_results(work / 'retrain' / 'results.json'))
    expected = np.sign(found - other)
    assert places['found'] - places['random'] == pytest.approx(expected, abs=0.01)


def test_pictures_of_a_page(page: Path, tmp_path: Path) -> None:
    from PIL import Image

    for dark in (False, True):
        out = tmp_path / f'{dark}.png'
        browser.take_picture(page, tmp_path, out, width=360, dark=dark)
        with Image.open(out) as picture:
            assert picture.width == 360
            assert picture.height > 3000
            corner = np.array(picture.convert('L'))[0, 0]
        assert (corner < 64) == dark
