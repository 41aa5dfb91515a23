"""Fuzzing of everything that reads files of others: `python -m verification.fuzz`.

targets.py    the readers, and right files to start from
mutations.py  how a file is spoiled
trial.py      one input, held against the rules: a value or a ValueError, in time, in memory
__main__.py   many of them, on all cores, with a record
"""
