"""The quality of pruned models: plans of runs, an engine that measures them, records."""
