"""Hypothesis here: no deadline per example, since a busy machine is no defect; nothing written into the checkout."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("wire", deadline=None, database=None, max_examples=60)
settings.load_profile("wire")
