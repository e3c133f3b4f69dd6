"""``python -m refbench.cli``, for where the script is not on the path."""

import sys

from refbench.cli.program import main

sys.exit(main())
