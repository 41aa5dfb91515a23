"""What all tests share: reproducible examples, and one thread."""

import torch
from hypothesis import settings

# Hypothesis draws the same examples on every run, so that CI is stable; no deadline, no files.
settings.register_profile(
    "project", derandomize=True, deadline=None, database=None, max_examples=40
)
settings.load_profile("project")

# Tiny layers are faster on one thread, above all when something else keeps the cores busy.
torch.set_num_threads(1)
