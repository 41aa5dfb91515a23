"""Files, progress, processes, clocks and downloads. Nothing here knows models."""
