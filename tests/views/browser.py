"""A headless browser, driven by its command line alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

_NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
_LIGHT, _DARK = '1', '0'

# A window is never narrower than 500 pixels, but a frame is. The page itself runs no
# script, so the one that looks at it stands around it.
_AROUND = """<!doctype html>
<html><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<style>body {{ margin: 0 }} iframe {{ display: block; border: 0 }}</style></head>
<body><iframe style="width:{width}px;height:{height}px" src="{page}"></iframe>
<script>
const frame = document.querySelector('iframe');
frame.onload = () => {{
  const page = frame.contentDocument, view = frame.contentWindow;
  const told = (() => {{ {script} }})();
  const out = document.createElement('pre');
  out.id = 'told';
  out.textContent = JSON.stringify(told);
  document.body.append(out);
}};
</script></body></html>
"""


def find_browser() -> str:
    """Return the browser of this machine; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip('there is no chromium here')
    return found


def _run(folder: Path, page: Path, dark: bool, size: tuple[int, int], *options: str) -> str:
    command = [
        find_browser(),
        '--headless',
        '--disable-gpu',
        '--hide-scrollbars',
        '--allow-file-access-from-files',
        f'--user-data-dir={folder / "profile"}',
        f'--blink-settings=preferredColorScheme={_DARK if dark else _LIGHT}',
        f'--window-size={max(size[0], 500)},{size[1]}',
        *options,
    ]
    if hasattr(os, 'geteuid') and os.geteuid() == 0:
        command.append('--no-sandbox')
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout


def look(
    page: Path, folder: Path, script: str, *, width: int, dark: bool = False, height: int = 800
) -> Any:
    """Return what a script says of a page that is shown at a width.

    Args:
        page: The file.
        folder: For files of the browser.
        script: The body of a function with ``page``, a document, and ``view``, its window.
        width: In pixels.
        dark: Whether the user prefers dark pages.
        height: In pixels.
    """
    around = folder / 'around.html'
    around.write_text(
        _AROUND.format(width=width, height=height, page=page.as_uri(), script=script)
    )
    dom = _run(folder, around, dark, (width, height), '--dump-dom')
    told = re.search(r'<pre id="told">(.*?)</pre>', dom, re.DOTALL)
    assert told is not None, dom[-2000:]
    return json.loads(unescape(told[1]))


def take_picture(
    page: Path, folder: Path, out: Path, *, width: int, dark: bool = False
) -> None:
    """Take a picture of a whole page, as it is shown at a width."""
    from PIL import Image

    script = 'return page.documentElement.scrollHeight'
    height = look(page, folder, script, width=width, dark=dark)
    around = folder / 'around.html'
    around.write_text(
        _AROUND.format(width=width, height=height, page=page.as_uri(), script='return 0')
    )
    _run(folder, around, dark, (width, height), f'--screenshot={out}')
    with Image.open(out) as picture:
        picture.crop((0, 0, width, height)).save(out, optimize=True)
