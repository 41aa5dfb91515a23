"""Thanos as its authors published it: `lib/thanos.py`."""

from lib.thanos import Thanos

from verification.scoreboard.adapters.thanos import pruned_by

prune = pruned_by(Thanos)
