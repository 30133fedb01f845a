"""Callers that ask a server without a pause, and what becomes of their requests when it ends."""

from __future__ import annotations

import json
import threading
import time

import grpc


class Load:
    """Threads that ask one after the other until they are refused, and keep what became of each request."""

    def __init__(self, address, make_call, num_threads=4):
        self._address, self._make_call = address, make_call
        self.outcomes = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(num_threads)]
        for thread in self._threads:
            thread.start()

    def _ask(self):
        with grpc.insecure_channel(self._address) as channel:
            call = self._make_call(channel)
            code = grpc.StatusCode.OK
            while code is grpc.StatusCode.OK:
                started_s = time.monotonic()
                try:
                    call()
                except grpc.RpcError as error:
                    code = error.code()
                self.outcomes.append((started_s, code))

    def wait_for(self, number):
        give_up_s = time.monotonic() + 60
        while len(self.outcomes) < number:
            assert time.monotonic() < give_up_s, self.outcomes
            time.sleep(0.005)

    def join(self):
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def assert_drains_without_loss(process, load):
    load.wait_for(20)
    terminated_s = time.monotonic()
    assert process.terminate() == 0, process.log.read_text()
    load.join()
    before = [code for started_s, code in load.outcomes if started_s < terminated_s]
    after = {code for started_s, code in load.outcomes if started_s >= terminated_s}
    assert set(before) == {grpc.StatusCode.OK}
    assert after <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    last = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")][-1]
    assert (last["event"], last["finished"]) == ("ended", True)
