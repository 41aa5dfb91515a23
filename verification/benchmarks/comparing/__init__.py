"""Compare two results files: which changes are more than noise, and what was lost."""
