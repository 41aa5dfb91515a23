"""`python -m thanos_torch` is `thanos`: torchrun starts modules."""

from thanos_torch.cli import main

main()
