"""Install the package: what it is and needs stands in ``pyproject.toml``.

The version is read as text, so that building needs none of the dependencies.
"""

import re
from pathlib import Path

from setuptools import setup

VERSION_FILE = Path(__file__).resolve().parent / 'mmrazor_mutators' / 'version.py'


def read_version() -> str:
    """Return the version that ``version.py`` states."""
    match = re.search(
        r"^__version__ = '([^']+)'$", VERSION_FILE.read_text(encoding='utf-8'), re.MULTILINE
    )
    if match is None:
        raise RuntimeError(f"Expected a line __version__ = '...' in {VERSION_FILE}")
    return match.group(1)


setup(version=read_version())
