"""The paper's models, and its measurements as a plan: what it takes to repeat them."""
