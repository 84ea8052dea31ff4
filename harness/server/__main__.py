"""Serve what a file says: ``python -P -m harness.server FILE FD``. Tells on descriptor FD, in one line of JSON, where it listens when the
model is ready, or why it cannot be; ends with its parent."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.server.api import Api
from harness.server.http import Connection
from harness.server.instance import command_of
from harness.server.service import DRAINING, Service

if TYPE_CHECKING:
    from harness.kserve.settings import Settings

log = logging.getLogger("harness.server")
SWEEP_S = 0.1
COLLECT_EVERY = 100
"""Sweeps between two collections: what lived at the start is frozen, so that one is over in a moment."""
LOOK_EVERY = 10
MANY = 1 << 30
LAST_WORDS_S = 1.0
"""For what is written to be sent before the end."""
PIDS_FILE = "pids.json"
BACKLOG = 2048


class Server:
    """Listens until it is told to stop."""

    def __init__(self, settings: Settings, settings_file: Path, report: int) -> None:
        self.settings = settings
        self.connections: set[Connection] = set()
        self.stopping = asyncio.Event()
        self.failure: str | None = None
        self._report = report
        self._reported = False
        self._grpc_port: int | None = None
        by_grpc = 0 if settings.grpc_port is None else MANY  # its clients are not counted
        deployment = settings.deployment
        self.service = Service(
            settings,
            command_of(deployment.python, settings_file),
            _environment(settings),
            connections=lambda: len(self.connections) + by_grpc,
            changed=self._changed,
            broken=self._is_broken,
        )
        self._api = Api(self.service)

    async def run(self) -> int:
        """The exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        deployment = self.settings.deployment
        try:
            listening = await loop.create_server(self._connection, deployment.host, deployment.port, backlog=BACKLOG)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            self._tell({"error": f"cannot listen on {deployment.host}:{deployment.port}: {why}"})
            return 1
        self._port = listening.sockets[0].getsockname()[1]
        rpc = None
        if self.settings.grpc_port is not None:
            from harness.server.rpc import RpcServer

            try:
                rpc = RpcServer(self.service, deployment.host, self.settings.grpc_port)
            except RuntimeError as error:
                self._tell({"error": f"cannot listen on {deployment.host}:{self.settings.grpc_port} for gRPC: {error}"})
                return 1
            self._grpc_port = rpc.port
            await rpc.start()
        self.service.start()
        sweeping = loop.create_task(self._sweep())
        await self.stopping.wait()
        await self._drain()
        listening.close()
        sweeping.cancel()
        if rpc is not None:
            await rpc.stop()
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.close()
        until = time.monotonic() + LAST_WORDS_S
        while self.connections and time.monotonic() < until:
            await asyncio.sleep(0.001)
        self.service.close()
        return 0 if self.failure is None else 1

    def _connection(self) -> Connection:
        return Connection(self._api, self.settings.max_body_bytes, self.connections)

    async def _sweep(self) -> None:
        read_s, keep_s = self.settings.read_timeout_ns / 1e9, self.settings.keep_alive_ns / 1e9
        sweep_s = min(SWEEP_S, self.settings.request_timeout_ns / 1e10)
        for number in range(sys.maxsize):
            await asyncio.sleep(sweep_s)
            self.service.sweep()
            if number % LOOK_EVERY == 0:
                now = time.monotonic()
                for connection in list(self.connections):
                    connection.look(now, read_s, keep_s)
            if number % COLLECT_EVERY == COLLECT_EVERY - 1:
                gc.collect()

    async def _drain(self) -> None:
        """Take no more, and wait for what is under way."""
        self.service.draining = True
        if self.failure is None:
            log.info("stopping: %d requests are under way", self.service.in_flight)
        until = time.monotonic() + self.settings.drain_timeout_ns / 1e9
        while self._busy() and time.monotonic() < until:
            await asyncio.sleep(0.005)
        self.service.abandon(DRAINING, running=True)

    def _busy(self) -> bool:
        unread = any(one.transport is not None and one.transport.get_write_buffer_size() for one in self.connections)
        return bool(self.service.in_flight) or unread

    def _changed(self) -> None:
        """Write down the processes, and tell once that everything is ready."""
        service = self.service
        pids = [os.getpid(), *(pid for one in service.instances if (pid := one.pid) is not None)]
        path = self.settings.deployment.folder / PIDS_FILE
        with contextlib.suppress(OSError):
            path.with_suffix(".new").write_text(json.dumps(pids))
            path.with_suffix(".new").replace(path)
        if not self._reported and service.gauges().ready_instances == len(service.instances):
            gc.collect()
            gc.freeze()
            gc.disable()
            self._tell({"port": self._port, "grpc_port": self._grpc_port})

    def _is_broken(self, reason: str) -> None:
        self.failure = reason
        self._tell({"error": reason})
        self.stopping.set()

    def _tell(self, content: Mapping[str, object]) -> None:
        if not self._reported:
            self._reported = True
            try:
                os.write(self._report, json.dumps(content).encode() + b"\n")
            except OSError:
                self.stopping.set()  # who started this is gone
            os.close(self._report)


def _environment(settings: Settings) -> Mapping[str, str]:
    from harness.engine.workers import Seat, environment_of

    deployment = settings.deployment
    return environment_of(Seat("serve", deployment.cores, deployment.threads, deployment.folder / "server.log", deployment.python))


def main() -> None:
    import uvloop
    from pydantic import TypeAdapter

    from harness.engine.worker import end_with_parent
    from harness.kserve.settings import Settings

    end_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    path, report = Path(sys.argv[1]), int(sys.argv[2])
    settings = TypeAdapter(Settings).validate_json(path.read_bytes())
    if settings.deployment.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, settings.deployment.cores)

    async def serve() -> int:
        return await Server(settings, path, report).run()

    sys.exit(uvloop.run(serve()))


if __name__ == "__main__":
    main()
