"""Generations of store and index change under load, good ones and bad ones."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import grpc

from protos.lookback.admin.v1 import admin_pb2, admin_pb2_grpc
from search_stage.index.layout import TABLE_FILE
from store.publishing.generation import CURRENT_FILE, swap_current
from store.publishing.manifest import Manifest
from tests.fault.searching import Callers
from tests.worlds.fault_search import FORGERIES, forge, make_search_world, percentile_ms
from tests.worlds.services import server_process
from tests.worlds.workers import by_worker, value_of, wait_until, worker_pids

REFUSALS = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.DATA_LOSS}


def serving(world, folder, *arguments):
    return server_process(
        folder, "search_stage", "--store", world.store, "--index", world.index, "--metrics-port", "0", *arguments
    )


class Admin:
    def __init__(self, address):
        self._channel = grpc.insecure_channel(address)
        self._stub = admin_pb2_grpc.AdminServiceStub(self._channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()

    def reload(self):
        return self._stub.Reload(admin_pb2.ReloadRequest(), timeout=60).versions

    def refused(self):
        """Reloads; gives the status of the refusal and what was said, or None if there was none."""
        try:
            self.reload()
        except grpc.RpcError as error:
            return error.code(), error.details()
        return None


def held_by(pid, roots):
    """What a process holds: its number of descriptors, its memory, and the generations whose files it has mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    mapped = {
        Path(line.split(maxsplit=5)[5].removesuffix(" (deleted)")).relative_to(root / "generations").parts[0]
        for line in maps.splitlines()
        for root in roots
        if str(root / "generations") in line
    }
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return len(os.listdir(f"/proc/{pid}/fd")), int(status["VmRSS"].split()[0]) / 1024, mapped


def test_swaps_under_load(folder, scale, rng, seed, tally):
    """No error; every answer is that of exactly one pair of generations; nothing of the old ones is held on to."""
    world = make_search_world(folder, rng)
    arguments = ("--workers", "2", "--watch-seconds", "0.05")
    with serving(world, folder, *arguments) as process, Admin(process.address) as admin:
        pids = worker_pids(process).values()
        with Callers(world, process.address, 4, seed) as callers:
            callers.wait_for(100)  # what is compiled or read at the first call is not what is measured
        with Callers(world, process.address, 4, seed) as callers:
            steady_s = time.monotonic()
            callers.wait_for(scale(100, 3000))
            swaps_s = time.monotonic()
            for number in range(scale(4, 50)):
                pair = world.pairs[(number + 1) % len(world.pairs)]
                world.publish(pair)
                if number % 2:
                    versions = admin.reload()
                    assert (versions.store_generation, versions.index_generation) == (pair.store, pair.index)
                served = {"store": pair.store, "index": pair.index}
                wait_until(lambda now=served: len(by_worker(process, "lookback_serving_info", **now)) == 2, process)
                callers.wait_for(20)
                tally.injected += 1
                if number == 1:
                    before = {pid: held_by(pid, (world.store, world.index)) for pid in pids}
            ended_s = time.monotonic()
        steady = percentile_ms(callers.took(steady_s, swaps_s), 99)
        during = percentile_ms(callers.took(swaps_s, ended_s), 99)
        current, roots = {world.pairs[0].store, world.pairs[0].index}, (world.store, world.index)
        wait_until(lambda: all(held_by(pid, roots)[2] == current for pid in pids), process)
        after = {pid: held_by(pid, roots) for pid in pids}
    tally.runs = callers.num_answers
    tally.corrupt += len(callers.wrong)
    tally.lost += len(callers.failures)
    assert callers.failures == []
    assert callers.wrong == []
    assert callers.generations == {pair.store for pair in world.pairs}
    for pid in pids:
        (descriptors, memory, _), (descriptors_after, memory_after, _) = before[pid], after[pid]
        assert descriptors_after <= descriptors + 2
        assert memory_after <= memory + 64
    grown = max(after[pid][1] - before[pid][1] for pid in pids)
    tally.note = f"p99 {steady:.1f} ms steady, {during:.1f} ms while swapping; memory {grown:+.1f} MiB"
    tally.check()


def files_of(root, name):
    manifest = Manifest.model_validate_json((root / "generations" / name / "manifest.json").read_bytes())
    return [file for file, entry in manifest.files.items() if entry.size]


def spoil(root, name, file, how):
    """Publishes a generation one of whose files does not match its manifest."""
    path = root / "generations" / name / file
    content = bytearray(path.read_bytes())
    if how == "cut short":
        del content[len(content) // 2 :]
    elif how == "bit flipped":
        content[len(content) // 2] ^= 4
    elif how == "gone":
        path.unlink()
    if how != "gone":
        path.write_bytes(content)
    swap_current(root, name)


def cases(world, rng, most):
    """What can be wrong with a generation: (root, its name, what is wrong, file)."""
    good, other = world.pairs
    for root, name in ((world.store, other.store), (world.index, other.index)):
        files = files_of(root, name)
        spoiled = [(root, name, how, file) for file in files for how in ("cut short", "bit flipped", "gone")]
        yield from rng.sample(spoiled, min(most, len(spoiled)))
        for text in ("../../etc", "/etc", "20260101-000000-0000000g", "20260101-000000-00000000", ""):
            yield root, name, "CURRENT", text
    for change in FORGERIES:
        yield world.index, good.index, change, TABLE_FILE
    for change in ("a path upwards", "an absolute path", "a path with NUL", "a symbolic link"):
        yield world.store, good.store, change, "base/records.bin"


def test_bad_generations_are_refused_while_the_old_one_serves(folder, scale, rng, seed, tally):
    """Whatever is wrong with what is published is said, and every answer is still that of the good pair."""
    world = make_search_world(folder, rng)
    good, other = world.pairs
    untouched = folder / "untouched"
    for root in (world.store, world.index):
        shutil.copytree(root / "generations", untouched / root.name, symlinks=True)
    with serving(world, folder, "--watch-seconds", "0") as process, Admin(process.address) as admin:
        with Callers(world, process.address, 2, seed) as callers:
            for root, name, what, file in cases(world, rng, scale(4, 10**6)):
                if what == "CURRENT":
                    (root / CURRENT_FILE).write_text(file + "\n")
                elif what in FORGERIES:
                    forge(root, name, what, of=file)
                else:
                    if root == world.index:
                        swap_current(world.store, other.store)
                    spoil(root, name, file, what)
                refusal = admin.refused()
                restored = other.store if root == world.store else other.index
                where = f"{root.name}: {what}: {file}"
                assert refusal is not None, where
                assert refusal[0] in REFUSALS, (where, refusal)
                tally.injected += 1
                callers.wait_for(5)
                world.publish(good)
                versions = admin.reload()
                assert (versions.store_generation, versions.index_generation) == (good.store, good.index), where
                shutil.rmtree(root / "generations" / restored)
                shutil.copytree(untouched / root.name / restored, root / "generations" / restored)
        refusals = value_of(process, "lookback_swaps_total", result="refused")
    tally.runs = callers.num_answers
    tally.corrupt += len(callers.wrong)
    tally.lost += len(callers.failures)
    assert callers.failures == []
    assert callers.generations == {good.store}
    assert refusals == tally.injected
    tally.check()
