"""The least that a call through gRPC costs on this machine: a method that only answers a given number of bytes.

`python -m scripts.bench.search.echo PORT_FILE` serves until it is ended.
"""

from __future__ import annotations

import sys
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from scripts.servers import listening
from serving.slot import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MODULE = "scripts.bench.search.echo"
_SERVICE, _METHOD = "lookback.bench.Echo", "Answer"
_SIZE_BYTES = 8


def _answer(data: bytes, context: grpc.ServicerContext) -> bytes:
    return bytes(int.from_bytes(data[:_SIZE_BYTES], "little"))


@contextmanager
def echo(folder: Path) -> Iterator[Callable[[int, int], bytes]]:
    """Serves in a process of its own for the time of the block; gives a call (bytes to send, bytes to receive).

    Args:
        folder: For the port and the log.

    Raises:
        RuntimeError: The process did not start.
    """
    port_file = folder / "echo.port"
    with (
        listening((_MODULE, port_file), port_file, folder / "echo.log") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        ask = channel.unary_unary(f"/{_SERVICE}/{_METHOD}")
        yield lambda sent, answered: ask(answered.to_bytes(_SIZE_BYTES, "little") + bytes(max(sent - 8, 0)))


def main() -> None:
    """Serves."""
    methods = {_METHOD: grpc.unary_unary_rpc_method_handler(_answer)}
    handler = grpc.method_handlers_generic_handler(_SERVICE, methods)
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    write_whole(Path(sys.argv[1]), f"{port}\n")
    server.wait_for_termination()


if __name__ == "__main__":
    main()
