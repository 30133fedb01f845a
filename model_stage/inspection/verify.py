"""Whether a bundle is whole and can be served: every file, every tensor, and one synthetic request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import numpy as safe_numpy
from safetensors import torch as safe_torch

from model_stage.bundle import ATTENTION_EXPORT, KIND, SERVED_VECTORS, attention_export, load_bundle
from model_stage.encoding.batch import collate
from model_stage.errors import BundleError, ConfigError
from model_stage.inspection.synthetic_request import sample_categories, synthetic_request
from store.publishing.generation import open_generation
from store.retrieval import NO_LEVEL
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from model_stage.bundle import Bundle


def verify_bundle(root: Path, name: str | None = None) -> Iterator[tuple[str, str]]:
    """Checks a bundle, part by part; gives (what was checked, what was found) of each part that is sound.

    Raises:
        store.errors.GenerationError: A file is missing, is not what the manifest says, or nothing is published.
        BundleError: The files are what the manifest says, and the bundle still cannot be served. Both name the file.
    """
    opened = open_generation(root, KIND, name)
    size = sum(entry.size for entry in opened.manifest.files.values())
    yield "files", f"{len(opened.manifest.files)} files, {size:,} bytes, all with the sha256 of the manifest"
    checked = _finite(opened.path)
    yield "numbers", f"{checked:,} numbers, all finite"
    try:
        bundle = load_bundle(root, opened.name)
    except ConfigError as exc:
        raise BundleError(f"{exc}; train the bundle anew") from exc
    tensors = bundle.network.state_dict()
    yield "weights", f"{len(tensors)} tensors, each of the shape that schema, targets and network imply"
    if SERVED_VECTORS in opened.manifest.files:
        yield "served vectors", _check_served(bundle, opened.path / SERVED_VECTORS)
    yield "attention export", _check_export(bundle, opened.path / ATTENTION_EXPORT)
    yield "made-up request", _check_scores(bundle, opened.path)


def _finite(path: Path) -> int:
    """Checks every number of every tensor file; gives how many there are."""
    count = 0
    for file in sorted(path.glob("*.safetensors")):
        try:
            tensors = safe_torch.load_file(file)
        except SafetensorError as exc:
            raise BundleError(f"{file}: is no safetensors file ({exc}); train the bundle anew") from exc
        for name, tensor in tensors.items():
            count += tensor.numel()
            if not bool(torch.isfinite(tensor).all()):
                raise BundleError(f"{file}: {name} holds a number that is not finite; train the bundle anew")
    return count


def _check_served(bundle: Bundle, path: Path) -> str:
    """Checks that the vectors a server looks up are those of the weights, rounded as they are stored."""
    dtype = torch.float32
    for name, stored in safe_torch.load_file(path).items():
        dtype = stored.dtype
        # Sums may differ in the last bit from those of the machine that trained, and round to the next number then.
        expected = bundle.network.node_vectors(dtype)[name]
        if not torch.allclose(stored, expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-5):
            raise BundleError(f"{path}: {name} is not what weights.safetensors gives; train the bundle anew")
    return f"{len(bundle.vocabularies.tree.path):,} nodes, {dtype}, as the weights say"


def _check_export(bundle: Bundle, path: Path) -> str:
    """Checks that the vectors an index is built from are those of the weights."""
    stored, expected = safe_numpy.load_file(path), attention_export(bundle.network, bundle.vocabularies)
    for name, array in expected.items():
        if name not in stored or stored[name].shape != array.shape:
            raise BundleError(f"{path}: {name}: a tensor of shape {array.shape} is needed; train the bundle anew")
        if not np.allclose(stored[name], array, rtol=1e-4, atol=1e-5):
            raise BundleError(f"{path}: {name} is not what weights.safetensors gives; train the bundle anew")
    return f"{len(expected['item_ids']):,} items and {len(expected['category_ids']):,} categories, as the weights say"


def _check_scores(bundle: Bundle, path: Path) -> str:
    """Scores candidates with behaviors, and one without."""
    categories = sample_categories(bundle, 8)
    encoder = bundle.encoder
    requests = [
        synthetic_request(bundle, categories, [400 * DAY_MS, DAY_MS, 60_000], [1, NO_LEVEL, 0]),
        synthetic_request(bundle, categories[:1], [], []),
    ]
    with torch.inference_mode():
        logits = bundle.network(collate([encoder.encode(*each) for each in requests])).logit_BT.numpy()
    if not bool(np.isfinite(logits).all()):
        raise BundleError(f"{path / 'weights.safetensors'}: a made-up request scores {logits.tolist()}; train it anew")
    probability = bundle.calibration.probabilities(logits, bundle.targets.names, bundle.targets.given)
    return f"{probability.size} probabilities, from {probability.min():.4g} to {probability.max():.4g}"
