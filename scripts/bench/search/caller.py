"""A client process of the workers' benchmark: sends requests in a closed loop, and prints how long they took.

Requests are sent and answers taken as bytes, so that the client itself costs as little as possible.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import grpc

METHOD = "/lookback.search.v1.SearchService/Search"


def main() -> None:
    """Runs one client; arguments: address, connections, time of the start and of the end (`time.time`), requests."""
    address, connections, start_s, end_s, file = sys.argv[1:]
    requests = [bytes.fromhex(line) for line in Path(file).read_text(encoding="ascii").split()]
    durations_s: list[float] = []

    def ask(first: int) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
        with grpc.insecure_channel(address, options=options) as channel:
            search = channel.unary_unary(METHOD)
            search(requests[first % len(requests)], timeout=60, wait_for_ready=True)
            time.sleep(max(0.0, float(start_s) - time.time()))
            number = first
            while time.time() < float(end_s):
                started_s = time.perf_counter()
                search(requests[number % len(requests)], timeout=60)
                durations_s.append(time.perf_counter() - started_s)
                number += 1

    threads = [threading.Thread(target=ask, args=(7 * number,)) for number in range(int(connections))]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, float(start_s) - time.time()))
    spent_s = time.process_time()
    for thread in threads:
        thread.join()
    print(json.dumps({"durations_s": durations_s, "cpu_s": time.process_time() - spent_s}))


if __name__ == "__main__":
    main()
