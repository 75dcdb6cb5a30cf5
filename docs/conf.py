"""How Sphinx builds these pages: ``sphinx-build -W --keep-going -b html docs docs/_build``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for our own extension, tables.py

import mailhandlers

project = "mailhandlers"
author = "The mailhandlers developers"
copyright = author  # noqa: A001
version = release = mailhandlers.__version__

extensions = ["sphinx.ext.autodoc", "tables"]
# description.rst is what a package index shows.
exclude_patterns = ["_build", "description.rst"]
highlight_language = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"mailhandlers {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
