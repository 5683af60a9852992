"""`python -m runcast`: the command line."""

import sys

from runcast.cli import main

sys.exit(main())
