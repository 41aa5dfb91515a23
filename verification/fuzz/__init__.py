"""Fuzzing of every reader of untrusted files: `python -m verification.fuzz`.

targets.py    the readers, with valid files to start from
mutations.py  random damage to a file
trial.py      one damaged input: its reader must return or refuse it, in time and in memory
__main__.py   many inputs, on all cores, with a record
"""
