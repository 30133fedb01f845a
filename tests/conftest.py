"""For all tests: Hypothesis looks at results, never at the clock, which other work on the machine would move."""

from hypothesis import settings

settings.register_profile("lookback", deadline=None)
settings.load_profile("lookback")
