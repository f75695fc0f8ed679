"""How Sphinx makes a site of these pages: ``make site`` writes it to docs/_build/html."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

project = 'mmrazor_mutators'
author = 'The authors of mmrazor_mutators'
project_copyright = author
release = runpy.run_path(str(DOCS.parent / 'mmrazor_mutators' / 'version.py'))['__version__']
version = release

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx_copybutton',
    '_sphinx.api_pages',
    '_sphinx.contents',
    '_sphinx.mathml',
    '_sphinx.notebooks',
    '_sphinx.source_pages',
    '_sphinx.tables',
]
exclude_patterns = ['_build', 'pages', '**/__pycache__']
root_doc = 'index'

myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 4

autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
autodoc_inherit_docstrings = True
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True

copybutton_exclude = '.linenos, .gp, .go'
pygments_style = 'friendly'
pygments_dark_style = 'monokai'

html_theme = 'furo'
html_title = project
html_math_renderer = 'mathml'
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_static_path = ['_sphinx/static']
html_css_files = ['site.css']
