"""Transformers without its bars and advice."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep Transformers' bars and advice off the terminal; errors still come as exceptions."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        # The GGUF reader's bar asks nobody whether bars are wanted.
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            yield
    finally:
        logging.set_verbosity(before)
