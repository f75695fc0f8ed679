"""The navigation, read from the links in index.md, which then needs no directive."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform


class ContentsOfIndex(SphinxTransform):
    """Make a part of the navigation of every section of index.md that lists pages."""

    default_priority = 800

    def apply(self, **kwargs: Any) -> None:
        """Add a hidden tree of contents for each list of links, and that of api.md."""
        if self.env.docname == 'api':
            from pages.api import GROUPS

            inside = [f'api/{group}' for group in GROUPS]
            self.document.children[0].append(self._tree(inside, ''))
        if self.env.docname != self.config.root_doc:
            return
        seen: set[str] = set()
        for section in list(self.document.findall(nodes.section)):
            pages = []
            for items in section.children:
                if not isinstance(items, nodes.bullet_list):
                    continue
                for link in items.findall(addnodes.pending_xref):
                    page = link['reftarget'].removesuffix('.md').removesuffix('.ipynb')
                    if page in self.env.found_docs and page not in seen:
                        pages.append(page)
                        seen.add(page)
            if pages:
                section.append(self._tree(pages, section[0].astext()))

    def _tree(self, pages: list[str], caption: str) -> nodes.Node:
        tree = addnodes.toctree(
            '',
            caption=caption or None,
            rawcaption=caption,
            entries=[(None, page) for page in pages],
            includefiles=pages,
            rawentries=[],
            parent=self.env.docname,
            maxdepth=1,
            hidden=True,
            includehidden=False,
            glob=False,
            numbered=0,
            titlesonly=True,
        )
        return nodes.compound('', tree, classes=['toctree-wrapper'])


def setup(app: Any) -> dict[str, bool]:
    """Register the transform."""
    app.add_transform(ContentsOfIndex)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
