"""A model's parts: its prunable layers, their inputs, and running one decoder block at a time."""
