"""Adapters to implementations by others: each calls their code, and converts arrays and names.

An adapter is a function that gets a `Given` and returns the pruned weight and its mask; `adapter`
declares its patterns, and makes the function of docs/conformance.md of it. It runs in the
environment of its implementation, and imports nothing of the judge but `reference.patterns`.
"""
