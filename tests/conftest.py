"""For all tests: Hypothesis looks at results, never at the clock, which other work on the machine would move.

What is printed is as wide as in a pipe, also in processes of a test run, which are told the width of a terminal.
"""

import os

from hypothesis import settings

os.environ.pop("COLUMNS", None)
settings.register_profile("lookback", deadline=None)
settings.load_profile("lookback")
