"""The conformance vectors: data files, and `python -m verification.vectors`, which makes them."""
