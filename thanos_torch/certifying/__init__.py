"""Judge a pruned checkpoint against its dense original and saved Gram matrices."""
