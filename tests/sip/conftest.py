"""Hypothesis without deadlines: a machine under load is no bug, and the tests of linear time measure processor time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("sip", deadline=None)
settings.load_profile("sip")
