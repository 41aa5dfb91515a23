"""`python -m verification`: the command `thanos verify`, which needs no PyTorch to judge others."""

import sys

from verification.conformance.command import main

sys.exit(main())
