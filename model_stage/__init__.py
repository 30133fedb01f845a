"""Stage two: target-decoupled attention over the retrieved behaviors; a library first, a thin service second."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
