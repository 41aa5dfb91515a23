"""Two results files against each other: what changed, and what of it is more than noise."""
