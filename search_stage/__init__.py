"""Search: picks, out of everything a user ever did, the behaviors that matter for each candidate ad."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
