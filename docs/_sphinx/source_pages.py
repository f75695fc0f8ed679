"""Pages for the files outside of docs/ that the Markdown pages link to, such as configs.

On a code host such a link shows the file.  Here it leads to a page with the
file's text, or, for the class or function of the API that the link is named
after, to its entry there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform

ROOT = Path(__file__).resolve().parents[2]
FOLDER = 'source'
_BASE = re.compile(r"'(\.{1,2}/[\w./]+\.py)'")
_LANGUAGES = {'.py': 'python', '.md': 'markdown', '.yaml': 'yaml', '.toml': 'toml'}


def _outside(docname: str, target: str) -> Path | None:
    """Return what a link to outside of docs/ means, relative to the root."""
    path = Path(os.path.normpath(ROOT / 'docs' / Path(docname).parent / target.split('#')[0]))
    inside = path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / 'docs')
    return path.relative_to(ROOT) if inside and path.exists() else None


def _wanted(env: Any) -> dict[str, set[tuple[str, str]]]:
    """Return ``{page: {(file, text of the link)}}`` of all pages."""
    if not hasattr(env, 'linked_sources'):
        env.linked_sources = {}
    return env.linked_sources


def _note_links(app: Any, doctree: nodes.document) -> None:
    """Turn links to files outside of docs/ into links to their pages."""
    docname = app.env.docname
    noted = _wanted(app.env).setdefault(docname, set())
    kinds = (nodes.reference, addnodes.download_reference, addnodes.pending_xref)
    for link in [node for node in doctree.findall() if isinstance(node, kinds)]:
        path = _outside(docname, link.get('reftarget') or link.get('refuri') or '')
        if path is None or '://' in (link.get('refuri') or ''):
            continue
        noted.add((path.as_posix(), link.astext()))
        target = addnodes.pending_xref(
            '', refdomain='source', reftype='file', reftarget=path.as_posix(), refdoc=docname
        )
        target += [child.deepcopy() for child in link.children]
        link.replace_self(target)


def _entry(env: Any, name: str) -> Any:
    """Return where the API describes a name, or ``None``."""
    entries = env.get_domain('py').objects
    places = ('mmrazor_mutators', 'mmrazor_mutators.errors')
    return next((entries[f'{p}.{name}'] for p in places if f'{p}.{name}' in entries), None)


class SourceLinks(SphinxPostTransform):
    """Resolve what :func:`_note_links` has left."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        """Replace each by a link to the API, or to the page of the file."""
        for link in list(self.document.findall(addnodes.pending_xref)):
            if link.get('refdomain') != 'source':
                continue
            entry = _entry(self.env, link.astext())
            if entry is not None:
                page, anchor = entry.docname, f'#{entry.node_id}'
            else:
                page, anchor = f'{FOLDER}/{link["reftarget"]}', ''
            uri = self.app.builder.get_relative_uri(self.env.docname, page)
            target = nodes.reference('', '', internal=True, refuri=f'{uri}{anchor}')
            target += link.children
            link.replace_self(target)


def _pages(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the pages of all files that are linked to, and of what is in linked folders."""
    links = {link for links in _wanted(app.env).values() for link in links}
    paths = {Path(path) for path, text in links if _entry(app.env, text) is None}
    for folder in [path for path in paths if (ROOT / path).is_dir()]:
        paths.update(p.relative_to(ROOT) for p in (ROOT / folder).iterdir() if p.is_file())
    for path in list(paths):
        paths.update(_bases(path))
    for path in sorted(paths):
        docname, title = f'{FOLDER}/{path.as_posix()}', path.as_posix()
        if (ROOT / path).is_dir():
            body = _listing(app, docname, path, paths)
        else:
            text = (ROOT / path).read_text(encoding='utf-8')
            language = _LANGUAGES.get(path.suffix, 'text')
            body = app.builder.highlighter.highlight_block(text, language)
            body = _with_links(app, docname, path, body)
        yield docname, {'title': title, 'body': f'<h1>{title}</h1>\n{body}'}, 'page.html'


def _bases(path: Path) -> set[Path]:
    """Return the configs that a config names as its bases, and theirs in turn."""
    if path.parts[0] != 'configs' or path.suffix != '.py':
        return set()
    text = (ROOT / path).read_text(encoding='utf-8')
    found = {_beside(path, base) for base in _BASE.findall(text)} - {path}
    return found.union(*map(_bases, found))


def _beside(path: Path, base: str) -> Path:
    return Path(os.path.normpath(path.parent / base))


def _with_links(app: Any, docname: str, path: Path, body: str) -> str:
    """Let the names of bases lead to them."""
    for base in _bases(path):
        name = Path(os.path.relpath(base, path.parent)).as_posix()
        uri = app.builder.get_relative_uri(docname, f'{FOLDER}/{base.as_posix()}')
        for shown in (name, f'./{name}'):
            body = body.replace(f"'{shown}'", f'<a href="{uri}">\'{shown}\'</a>')
    return body


def _listing(app: Any, docname: str, folder: Path, paths: set[Path]) -> str:
    links = [
        f'<li><a href="{app.builder.get_relative_uri(docname, f"{FOLDER}/{p.as_posix()}")}">'
        f'{p.name}</a></li>'
        for p in sorted(paths)
        if p.parent == folder
    ]
    return f'<ul>{"".join(links)}</ul>'


def _share_menu(app: Any, page: str, _: str, context: dict[str, Any], *__: Any) -> None:
    """Make the menu once for all pages of files that are as deep: they are not in it."""
    if not page.startswith(f'{FOLDER}/'):
        return
    menus = app.builder.__dict__.setdefault('menus', {})
    depth, make = page.count('/'), context['toctree']

    def toctree(**kwargs: Any) -> str:
        key = depth, str(sorted(kwargs.items()))
        if key not in menus:
            menus[key] = make(**kwargs)
        return str(menus[key])

    context['toctree'] = toctree


def _forget(app: Any, env: Any, docname: str) -> None:
    _wanted(env).pop(docname, None)


def setup(app: Any) -> dict[str, Any]:
    """Register what notes, resolves and writes."""
    app.connect('env-purge-doc', _forget)
    app.connect('doctree-read', _note_links, priority=100)
    app.connect('html-collect-pages', _pages)
    app.connect('html-page-context', _share_menu, priority=400)  # Before the theme's.
    app.add_post_transform(SourceLinks)
    # What is kept of a page has this form; of another one, pages are read anew.
    return {'env_version': 1, 'parallel_read_safe': False, 'parallel_write_safe': True}
