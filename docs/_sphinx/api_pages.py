"""The reference of public names, one page a group, written before Sphinx looks for pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def _write(app: Any, config: Any) -> None:
    from pages import api

    folder = Path(app.srcdir) / 'api'
    folder.mkdir(exist_ok=True)
    for group in api.GROUPS:
        path, text = folder / f'{group}.rst', '\n'.join(api.reference(group))
        # What is not written anew need not be read anew.
        if not path.is_file() or path.read_text(encoding='utf-8') != text:
            path.write_text(text, encoding='utf-8')


def setup(app: Any) -> dict[str, bool]:
    """Have the pages written."""
    app.connect('config-inited', _write)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
