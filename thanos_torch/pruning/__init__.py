"""A pruning run over a whole model: plan, execute, store, describe."""
