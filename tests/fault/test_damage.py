"""Files cut short and bits flipped: refused with a typed error or harmless, and no signal ever."""

from __future__ import annotations

import numpy as np
import pytest

from store.publishing.generation import CURRENT_FILE, current_name
from tests.fault import jobs
from tests.fault.children import run_child
from tests.fault.damage import Damage, attempt_open, attempt_reload, random_flips, try_all
from tests.worlds import fault_store
from tests.worlds.datasets import bits_of_structure

BASE = np.arange(1000)


@pytest.fixture
def published(folder):
    """A store with two generations, what the newer one holds, and the name of the older one."""
    root = fault_store.make_store(folder, BASE, items=600)
    good = current_name(root, "store")
    run_child(
        jobs.ingest_into, root, fault_store.write_events(folder / "more", np.arange(900, 2000), items=600)
    ).unwrap()
    return root, run_child(jobs.inspect, root).unwrap(), good


def test_a_manifest_cut_at_every_byte(published, folder, scale, rng, tally):
    root, expected, good = published
    manifest = root / "generations" / expected.generation / "manifest.json"
    cuts = range(manifest.stat().st_size)
    cases = [Damage(manifest, cut=cut) for cut in (cuts if scale.long else rng.sample(cuts, 100))]
    cases += [Damage(root / CURRENT_FILE, cut=cut) for cut in range((root / CURRENT_FILE).stat().st_size)]
    counts = try_all(tally, folder / "log", cases, attempt_reload, root, good, expected)
    assert counts["harmless"] <= 2  # the line ends at the ends of both files


def test_flipped_bits_of_a_generation(published, folder, scale, rng, tally):
    root, expected, good = published
    files = sorted(path for path in (root / "generations" / expected.generation).rglob("*") if path.is_file())
    cases = random_flips(rng, [*files, root / CURRENT_FILE], scale(150, 1000))
    assert {"manifest.json", "data.mdb", "records.bin"} <= {case.path.name for case in cases}
    try_all(tally, folder / "log", cases, attempt_reload, root, good, expected)


def test_flipped_bits_of_the_delta(folder, scale, rng, tally):
    """Half of them anywhere, half in what LMDB itself believes."""
    root = fault_store.make_store(folder, BASE)
    run_child(jobs.append_some, root, 5000, 6000).unwrap()
    run_child(jobs.append_named, root, 7000, 7100).unwrap()
    run_child(jobs.delete_some, root, [3, 5]).unwrap()
    expected = run_child(jobs.inspect, root).unwrap()
    data = root / "delta" / "data.mdb"
    count = scale(60, 1000)
    structure = rng.sample(bits_of_structure(data.read_bytes()), count)
    cases = [*random_flips(rng, [data], count), *(Damage(data, bit=bit) for bit in structure)]
    try_all(tally, folder / "log", cases, attempt_open, root, expected)


def test_a_delta_cut_short(folder, scale, rng, tally):
    root = fault_store.make_store(folder, BASE)
    run_child(jobs.append_some, root, 5000, 6000).unwrap()
    expected = run_child(jobs.inspect, root).unwrap()
    data = root / "delta" / "data.mdb"
    cases = [Damage(data, cut=rng.randrange(data.stat().st_size)) for _ in range(scale(20, 300))]
    try_all(tally, folder / "log", cases, attempt_open, root, expected)
