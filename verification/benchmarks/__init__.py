"""Benchmarks that measure `thanos_torch`: every result certified before it is reported.

The only part of `verification` that imports torch.
"""
