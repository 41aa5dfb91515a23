"""`thanos bench cost`: a cost model of pruning, fitted, checked, and what it predicts.

Layers of many sizes are pruned, certified and timed stage by stage. A model whose terms are the
operations of the algorithm is fitted to some of the sizes and held against the others.
"""
