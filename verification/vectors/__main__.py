"""`python -m verification.vectors [FOLDER]`: make the conformance vectors again."""

import sys
from pathlib import Path

from verification.conformance.cases import FOLDER
from verification.vectors.make import make_vectors
from verification.vectors.version import VERSION, content_digest

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
print(f"{make_vectors(folder)} cases in {folder}")
print(f"version {VERSION}, digest {content_digest(folder)}")
