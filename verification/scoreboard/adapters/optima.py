"""OPTIMA's copy of Thanos: `optima/thanos.py`."""

from optima.thanos import Thanos

from verification.scoreboard.adapters.thanos import pruned_by

prune = pruned_by(Thanos)
