"""Draw docs/images/watching.png, and print what the terminal shows: a short search on digits.

python docs/watching_picture.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs' / 'darts' / 'nasbench201_digits.py'
OPTIONS = ['train_cfg.max_epochs=30', 'model.architecture.base_channels=8']


def main() -> None:
    """Search, and draw the search."""
    with tempfile.TemporaryDirectory() as folder:
        words = [str(CONFIG), '--work-dir', folder, '--seed', '0', '--measure', '3']
        run('search', *words, '--cfg-options', *OPTIONS)
        run('show', folder, '--out', str(ROOT / 'docs' / 'images' / 'watching.png'))


def run(*words: str) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, '-m', 'mmrazor_mutators', *words], check=True, cwd=ROOT)


if __name__ == '__main__':
    main()
