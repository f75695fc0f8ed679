"""Run the example of README.md, and draw what it found into docs/images/readme.png.

python docs/readme_picture.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mmrazor_mutators.views.draw_networks import draw_network
from mmrazor_mutators.views.networks import view_network

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run the example, which prints what stands below it, and write the picture."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    code = re.findall(r'^```python\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)[0]
    told: dict[str, Any] = {'__name__': '__main__'}
    exec(compile(code, 'README.md', 'exec'), told)
    view = view_network(told['net'], told['mutator'].search_subnet(), told['images'][:1])
    draw_network(view, ROOT / 'docs' / 'images' / 'readme.png')


if __name__ == '__main__':
    main()
