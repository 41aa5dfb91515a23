"""A digest of the plotted data in each image file, which tells whether the picture is stale.

Pixels depend on fonts and libraries. What is drawn does not: so a test can tell whether a picture
is still that of the results.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import FixedFormatter
from PIL import Image

KEY = "Description"  # one of the names that a PNG file has for its own texts
DIGITS = 6  # of a number: more than can be seen, fewer than two machines' rounding changes


def digest(figure: Any) -> str:
    """Of all data, colours and words of a figure's panels."""
    known = hashlib.sha256()
    for panel in figure.axes:
        for part in (*_data(panel), *_words(panel)):
            known.update(f"{part}\n".encode())
    return known.hexdigest()


def digest_of(file: Path) -> str:
    """The digest that a picture was written with."""
    with Image.open(file) as picture:
        return str(picture.info[KEY])


def _data(panel: Any) -> Iterator[str]:
    """Lines, bars and areas, clouds of points, and images."""
    for line in panel.lines:
        yield f"{_numbers(line.get_xydata())} {mpl.colors.to_hex(line.get_color())}"
    for patch in panel.patches:
        corners = patch.get_patch_transform().transform(patch.get_path().vertices)
        yield f"{_numbers(corners)} {mpl.colors.to_hex(patch.get_facecolor())}"
    for cloud in panel.collections:
        yield _numbers(cloud.get_offsets())
        yield from (_numbers(path.vertices) for path in cloud.get_paths())
    for image in panel.images:
        yield _numbers(image.get_array())


def _words(panel: Any) -> Iterator[str]:
    """Titles, notes, legends, and names along the axes; not numbers, which follow from the data."""
    yield from (panel.get_title(), panel.get_xlabel(), panel.get_ylabel())
    yield from (note.get_text() for note in panel.texts)
    for axis in (panel.xaxis, panel.yaxis):
        if isinstance(axis.get_major_formatter(), FixedFormatter):
            yield from axis.get_major_formatter().seq
    legend = panel.get_legend()
    if legend:
        yield from (entry.get_text() for entry in legend.get_texts())


def _numbers(values: Any) -> str:
    flat = np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan).ravel()
    return " ".join(f"{value:.{DIGITS}g}" for value in flat)
