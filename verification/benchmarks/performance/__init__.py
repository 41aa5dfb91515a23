"""The cost of pruning: seconds and memory of layers, a cost model, its predictions."""
