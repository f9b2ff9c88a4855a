"""Preloaded by a Dask worker of tests: a later release with the same calls."""

import codex_counsel

codex_counsel.__version__ = "99.0"
