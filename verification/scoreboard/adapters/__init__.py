"""Adapters to implementations by others: each calls their code, and converts arrays and names.

An adapter is a function `prune` as docs/conformance.md describes it. It runs in the environment of
its implementation, and imports nothing of the judge but `reference.patterns`.
"""
