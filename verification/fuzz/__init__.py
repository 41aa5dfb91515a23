"""Fuzzing of every reader of untrusted files: `python -m verification.fuzz`.

targets.py    the readers, with valid files to start from
folders.py    the readers of models on disk, whose values are changed
mutations.py  random damage to the bytes of a file
values.py     other values in a file that stays well-formed
trial.py      one damaged input: its reader must return or refuse it, in time and in memory
__main__.py   many inputs, on all cores, with a record
"""
