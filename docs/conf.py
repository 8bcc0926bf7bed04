"""The documentation site: `make docs`."""

import mmgradaug

project = 'mmgradaug'
release = mmgradaug.__version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
source_suffix = {'.md': 'markdown'}
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = 'mmgradaug'
myst_heading_anchors = 3
# Annotations have the types; docstrings do not repeat them.
autodoc_typehints = 'description'
autodoc_member_order = 'bysource'
autodoc_default_options = {'members': True, 'show-inheritance': True}
# Inherited documentation of OpenMMLab and PyTorch has markup of its own.
autodoc_inherit_docstrings = False
# Bare URLs in results, checked by hand.
linkcheck_timeout = 20


def escape_stars(app, what, name, obj, options, lines):
    """``**kwargs`` is an argument, not the beginning of bold text."""
    lines[:] = [
        line.replace('**kwargs', r'\*\*kwargs').replace('*args', r'\*args') for line in lines
    ]


def setup(app):
    app.connect('autodoc-process-docstring', escape_stars, priority=1)
