"""Large blocks of a server go back to the system when they are freed; its libraries are not searched for garbage."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
from serving.server.memory import return_large_blocks

def held_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

if sys.argv[1] == "told":
    assert return_large_blocks()
before, pins = held_mib(), []
for _ in range(2):
    blocks = [bytearray(b"x") * (12 << 20) for _ in range(10)]
    pins += [bytearray(b"x") * 60_000 for _ in range(100)]
    del blocks
print(held_mib() - before)
"""


def left_mib(how):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_freed_blocks_are_given_back():
    assert left_mib("told") < 30
    assert left_mib("left alone") > 100


def test_the_collector_looks_at_what_is_new_only():
    script = (
        "import gc, weakref, serving.server.server as server\n"
        "class Node: pass\n"
        "before = len(gc.get_objects())\n"
        "server.freeze_libraries()\n"
        "node = Node(); node.itself = node; ref = weakref.ref(node); del node\n"
        "gc.collect()\n"
        "print(ref() is None, before, len(gc.get_objects()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    is_gone, before, after = done.stdout.split()
    assert is_gone == "True"
    assert int(before) > 20_000
    assert int(after) < 1000
