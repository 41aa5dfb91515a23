"""Checkpoints on disk: read, stream, inspect, pack, and keep their zeros."""
