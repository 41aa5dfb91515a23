"""`python -m verification`: `thanos verify`, without PyTorch unless that is what is judged."""

import sys

from verification.conformance.command import main

sys.exit(main())
