"""The only module that imports faiss."""

from __future__ import annotations

import importlib
from importlib.metadata import Distribution
from typing import Any

from search_stage.errors import FaissMissingError

_GPU_WHEELS = ("faiss-gpu", "faiss-gpu-cuvs")


def load_faiss() -> Any:  # noqa: ANN401 -- faiss has no type information
    """Gives the module, whichever wheel it is of.

    Raises:
        FaissMissingError: Neither wheel is installed, or it does not load.
    """
    if any(True for name in _GPU_WHEELS for _ in Distribution.discover(name=name)):
        # They bundle another CUDA than torch may: importing faiss first can crash the process.
        importlib.import_module("torch")
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise FaissMissingError(
            f"faiss cannot be imported ({error}); install one of its wheels: `pip install 'lookback[cpu]'`, "
            "or `pip install 'lookback[gpu]'` on a machine with an NVIDIA GPU"
        ) from error
