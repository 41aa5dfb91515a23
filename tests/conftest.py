"""Hypothesis draws the same examples on every run, so that CI is stable; no deadline, no files."""

from hypothesis import settings

settings.register_profile(
    "project", derandomize=True, deadline=None, database=None, max_examples=40
)
settings.load_profile("project")
