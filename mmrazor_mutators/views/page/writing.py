"""Write the page of a work directory."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from ...durable import write_durably
from ...errors import ConfigError
from ...host import require_runner
from ...version import __version__

__all__ = ['write_report']

_FOLDER = Path(__file__).parent
_SECTIONS = (
    ('missing', 'Missing'),
    ('results', 'Result'),
    ('network', 'Network'),
    ('curves', 'Curves'),
    ('spaces', 'Choices'),
    ('training', 'Training'),
    ('evolution', 'Evolution'),
    ('front', 'Front'),
    ('settings', 'Settings'),
    ('commands', 'How to go on'),
)
_ID = {'results': 'result', 'commands': 'next'}


def write_report(
    work_dir: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    build: bool = True,
) -> Path:
    """Write a work directory as one HTML page that needs nothing but itself.

    It works while a search runs, when it has ended, was retrained or is broken; then the
    page says what is missing. Nothing in the directory changes but the page.

    Args:
        work_dir: Of a search, with its retraining in ``retrain``; of a retraining; or of a
            front.
        out: The file to write, by default ``report.html`` in ``work_dir``.
        build: Whether to build the networks that the config names, as ``retrain`` does: for
            the picture of layers, and for costs. With ``False`` files are read as data, and
            nothing that they name is run.

    Returns:
        Where the page is.

    Raises:
        ConfigError: There is nothing of a run in ``work_dir``, or the page cannot be written.
        HostError: There is no mmengine.
    """
    require_runner('`report`')
    from .content import content_of
    from .records import read_records

    folder = Path(work_dir)
    target = folder / 'report.html' if out is None else Path(out)
    records = read_records(folder)
    page = render(content_of(records, build), folder, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_durably(target, page)
    except OSError as error:
        raise ConfigError(
            f'Cannot write the report {os.fspath(target)!r}: {error.strerror or error}'
        ) from error
    return target


def render(content: dict[str, Any], folder: Path, target: Path) -> str:
    """Return the page; whatever came from files is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
    )
    sections = [
        (_ID.get(key, key), heading, bool(content.get(key))) for key, heading in _SECTIONS
    ]
    with_costs = any(each.macs for each in content['results'])
    columns = ['network', 'accuracy', 'parameters', 'multiply-adds'][: 3 + with_costs]
    rows = [
        (each.name, f'{each.accuracy:.2f}%', f'{each.parameters:,}', each.macs)[: len(columns)]
        for each in content['results']
    ]
    # The only text that is not escaped is that of this package.
    css = Markup((_FOLDER / 'report.css').read_text(encoding='utf-8'))
    return environment.get_template('report.html').render(
        content,
        css=css,
        sections=sections,
        result_columns=columns,
        result_rows=rows,
        folder=str(folder),
        version=__version__,
        written=_newest(folder, target),
    )


def _newest(folder: Path, target: Path) -> str:
    """Return when the newest file was written: the same directory gives the same page."""
    times = [
        path.stat().st_mtime
        for path in (*folder.glob('*'), *folder.glob('retrain/*'))
        if path.is_file() and path != target and not path.name.startswith('.')
    ]
    if not times:
        return ''
    return datetime.fromtimestamp(max(times)).strftime('%Y-%m-%d %H:%M')
