"""The benchmarks of `thanos bench`: every result is certified before it is reported.

Only this part of `verification` measures `thanos_torch` and needs PyTorch.
"""

import reference  # noqa: F401 - before PyTorch: reference/threads.py
