"""What both servers need and neither stage may import from the other: see docs/adr/0012-serving-is-a-package.md.

Knows gRPC, health, reflection, metrics and logs; of our messages only `serving.wire` does. A stage hands its servicers
in.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
