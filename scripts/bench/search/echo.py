"""The least that a call through gRPC costs on this machine: a method that answers so many bytes, and does nothing else.

`python -m scripts.bench.search.echo PORT_FILE` serves until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from scripts.servers import CHECKOUT
from serving.place import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_METHOD = "/lookback.bench.Echo/Answer"
_SIZE_BYTES = 8
_START_S = 30.0


class _Handler(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(_answer)


def _answer(data: bytes, context: grpc.ServicerContext) -> bytes:
    return bytes(int.from_bytes(data[:_SIZE_BYTES], "little"))


@contextmanager
def echo(folder: Path) -> Iterator[Callable[[int, int], bytes]]:
    """Serves in a process of its own for the time of the block; gives what sends so many bytes and gets so many.

    Args:
        folder: For the file with the port.

    Raises:
        RuntimeError: The process did not start.
    """
    port_file = folder / "echo.port"
    command = [sys.executable, "-m", "scripts.bench.search.echo", str(port_file)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE) as process:
        give_up_s = time.monotonic() + _START_S
        while not port_file.exists():
            if time.monotonic() > give_up_s or process.poll() is not None:
                process.kill()
                raise RuntimeError("the echo server did not start")
            time.sleep(0.01)
        with grpc.insecure_channel(f"127.0.0.1:{port_file.read_text(encoding='ascii').strip()}") as channel:
            ask = channel.unary_unary(_METHOD)
            yield lambda sent, answered: ask(answered.to_bytes(_SIZE_BYTES, "little") + bytes(max(sent - 8, 0)))
        assert process.stdin is not None
        process.stdin.close()


def main() -> None:
    """Serves."""
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[_Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    write_whole(Path(sys.argv[1]), f"{port}\n")
    sys.stdin.read()
    server.stop(None).wait()


if __name__ == "__main__":
    main()
