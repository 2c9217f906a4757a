"""Sphinx extension of the book. Four duties:

1. copy the MathJax files that the pages load out of ``sphinx-mathjax-offline``;
2. key the caches of executed chapters and compiled kernels on refimpl, and refuse to run
   chapters on a refimpl that is not the one in the tree;
3. write an ``.ipynb`` beside each chapter and let the theme offer it;
4. take the id ``proof`` from the proofs, which sphinx-proof gives to each of them.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from caches import choose_caches, digest, imported_package
from docutils import nodes
from notebooks import is_chapter, write_notebook
from sphinx.util import logging

logger = logging.getLogger(__name__)

MATHJAX_SCRIPT = "tex-chtml-full.js"
MATHJAX_FONTS = Path("output/chtml/fonts/woff-v2")


def copy_mathjax(app, exception) -> None:
    """Copy one script and 23 fonts, 1.7 of the 24 MB that the package holds."""
    if exception is not None or app.builder.format != "html":
        return
    # The module's name has hyphens, so it cannot be imported by a statement.
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise RuntimeError("the book needs sphinx-mathjax-offline: install the extra 'book'")
    source = Path(spec.origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    (target / MATHJAX_FONTS).mkdir(parents=True, exist_ok=True)
    shutil.copy2(source / MATHJAX_SCRIPT, target / MATHJAX_SCRIPT)
    for font in (source / MATHJAX_FONTS).glob("*.woff"):
        shutil.copy2(font, target / MATHJAX_FONTS / font.name)


def key_caches(app, config) -> None:
    """Point Sphinx and its Jupyter kernels to caches that fit the present source."""
    root = Path(app.srcdir)
    found = imported_package()
    if found is None or digest(found) != digest(root / "refimpl"):
        # Listings come from the tree, numbers from what the chapters import.
        logger.warning(
            "the installed refimpl is not the one in refimpl/: pip install --editable '.[book]'"
        )
    config.nb_execution_cache_path = str(choose_caches(root, Path(app.outdir).parent))


def offer_notebook(app, pagename, templatename, context, doctree) -> None:  # noqa: ARG001 (Sphinx passes five)
    """Write the chapter as .ipynb and set the key that the theme's button reads.

    The theme sets that key itself only when a launch button (Binder, Colab) is configured;
    the book has none.
    """
    page = Path(app.srcdir) / f"{pagename}.md"
    if doctree is None or not page.is_file() or not is_chapter(page):
        return
    write_notebook(page, Path(app.outdir) / "_sources" / f"{pagename}.ipynb")
    context["ipynb_source"] = f"{pagename}.ipynb"


def drop_ids_of_proofs(app, doctree) -> None:  # noqa: ARG001 (Sphinx passes two)
    """Leave a page with two proofs without a repeated id; nothing links to a proof."""
    for box in doctree.findall(nodes.admonition):
        if box["ids"] == ["proof"]:
            box["ids"] = []


def setup(app):
    app.connect("config-inited", key_caches)
    app.connect("doctree-read", drop_ids_of_proofs)
    app.connect("html-page-context", offer_notebook, priority=400)  # before the theme's own
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
