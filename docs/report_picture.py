"""Draw docs/images/report.png: the report of a search on digits, as a browser shows it.

python docs/report_picture.py [WORK_DIR]

Needs chromium. The report is that of WORK_DIR, or of a search and trainings that are run
for it, which takes a minute or two.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import mmrazor_mutators as mm

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs' / 'searchable' / 'digits_convnet.py'
SIZES = ((1000, False), (360, True))
HEIGHT, GAP = 1500, 24


def main() -> None:
    """Write the picture."""
    sys.path.insert(0, str(ROOT / 'tests' / 'views'))
    from browser import take_picture

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = Path(sys.argv[1]) if len(sys.argv) > 1 else folder / 'digits'
        if len(sys.argv) == 1:
            run('search', CONFIG, '--work-dir', work)
            subnet, trained = work / 'subnet.yaml', work / 'retrain'
            words = ['--subnet', subnet, '--work-dir', trained, '--compare-random', '3']
            run('retrain', CONFIG, *words)
        page = mm.write_report(work, folder / 'report.html')
        width = sum(width for width, _ in SIZES) + GAP
        picture = Image.new('RGB', (width, HEIGHT), 'white')
        left = 0
        for width, dark in SIZES:
            take_picture(page, folder, folder / 'page.png', width=width, dark=dark)
            with Image.open(folder / 'page.png') as shown:
                picture.paste(shown.crop((0, 0, width, HEIGHT)), (left, 0))
            left += width + GAP
        quantized = picture.quantize(128, dither=Image.Dither.NONE)
        quantized.save(ROOT / 'docs' / 'images' / 'report.png', optimize=True)


def run(*words: object) -> None:
    """Run the command line."""
    command = [sys.executable, '-m', 'mmrazor_mutators', *map(str, words)]
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == '__main__':
    main()
