"""Small models of four families, trained here: what pruning does to architectures without a hub."""
