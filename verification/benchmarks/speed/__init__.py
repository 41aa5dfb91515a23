"""`thanos bench speed`: what pruning a layer costs, in products of its Gram matrix's size.

A product unit is the time of one float32 product of b x b by b x b, on the same threads in the
same run: what is said in it holds on any machine.
"""
