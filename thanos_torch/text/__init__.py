"""Calibration and evaluation text, as windows of tokens."""
