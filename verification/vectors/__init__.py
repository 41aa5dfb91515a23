"""The conformance vectors: data, and `python -m verification.vectors`, which makes it."""

from pathlib import Path

FOLDER = Path(__file__).parent
