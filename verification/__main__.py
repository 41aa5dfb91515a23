"""`python -m verification`: the command `thanos verify`, which needs no PyTorch to judge others."""

import signal
import sys

from verification.conformance.command import main

# As an error would: the program under test is ended, and its folder is removed.
signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
sys.exit(main())
