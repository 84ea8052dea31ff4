"""See Embedded."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, cast

from pydantic import Field, TypeAdapter

from harness import plugins
from harness.core.errors import CannotMeasure
from harness.core.measurement import SessionFacts
from harness.core.plugin import Options, RunningServer
from harness.core.scenario import Bytes, Count, Duration
from harness.core.serving import Deployment, Endpoint, ServerCounters
from harness.kserve.client import Client, Refused, Unreachable
from harness.kserve.settings import Settings
from harness.serving._server_process import ServerProcess, line_from, server_process

PIDS_FILE = "pids.json"
STOP_MARGIN_S = 5.0
FACTS_TIMEOUT_S = 150.0


@dataclass(slots=True)
class EmbeddedServer:
    """The running server."""

    process: ServerProcess
    deployment: Deployment
    endpoint: Endpoint
    grpc_port: int | None
    """Where it answers gRPC too, None where it does not."""

    def pids(self) -> tuple[int, ...]:
        """The server's own process, then the model processes that are there now."""
        try:
            return tuple(json.loads((self.deployment.folder / PIDS_FILE).read_text()))
        except (OSError, ValueError):
            return (self.process.process.pid,)

    def counters(self) -> ServerCounters | None:
        """None where it does not answer any more."""
        try:
            with Client(self.endpoint) as client:
                return TypeAdapter(ServerCounters).validate_python(client.json("/harness/counters"))
        except (Unreachable, Refused):
            return None

    def facts(self) -> SessionFacts | None:
        """What the model's session reports; ask it after the load: it may open the model a second time."""
        try:
            with Client(self.endpoint, FACTS_TIMEOUT_S) as client:
                return TypeAdapter(SessionFacts).validate_python(client.json("/harness/facts"))
        except (Unreachable, Refused):
            return None

    def trouble(self) -> str | None:
        return self.process.trouble()

    def log(self) -> str:
        return self.process.log()


class Embedded(Options):
    """The server that comes with this program: the Open Inference Protocol over HTTP, with dynamic batching.

    A batch is formed whenever a model process is free, from what waits then, up to ``max_batch_size`` samples; with ``max_queue_delay`` a
    free process waits so long for more, in whole milliseconds, unless one of ``preferred_batch_sizes`` is reached or nobody is left who
    could send. Only requests of equal dtypes and shapes share a batch. ``queue_limit`` requests wait; more are answered with status 503.
    ``request_timeout`` ends in 504, ``read_timeout`` ends a client that does not finish its request. ``instances`` are model processes,
    each with the deployment's threads. ``cache`` keeps answers for equal requests. ``drain_timeout`` is for what is under way at the end.
    ``grpc_port`` (0: any free one) answers gRPC too.
    """

    extra: ClassVar[str | None] = "serve"
    packages: ClassVar[tuple[str, ...]] = ("httptools", "uvloop")
    accepts: ClassVar[tuple[str, ...]] = ()

    max_batch_size: Count = 8
    max_queue_delay: Literal[0] | Duration = 0
    preferred_batch_sizes: tuple[Count, ...] = ()
    queue_limit: Count = 1024
    request_timeout: Duration = Field(cast(float, "30 s"), validate_default=True)
    read_timeout: Duration = Field(cast(float, "30 s"), validate_default=True)
    keep_alive: Duration = Field(cast(float, "75 s"), validate_default=True)
    drain_timeout: Duration = Field(cast(float, "10 s"), validate_default=True)
    instances: Annotated[int, Field(ge=1, le=64, strict=True)] = 1
    cache: Literal[0] | Bytes = 0
    max_body: Bytes = Field(cast(float, "64 MiB"), validate_default=True)
    allow_not_finite: bool = False
    grpc_port: Annotated[int, Field(ge=0, le=65535, strict=True)] | None = None

    @contextmanager
    def serve(self, deployment: Deployment) -> Iterator[RunningServer]:
        """Start it; see Serving. Raises MissingPackage where the extra is not installed."""
        if self.grpc_port is not None:
            plugins.require("grpc", plugin="embedded", extra="grpc")
        for package in ("uvloop", "httptools", "prometheus_client"):
            plugins.require(package, plugin="embedded", extra="serve")
        file = deployment.folder / "server.json"
        settings = self.settings(deployment)
        file.write_bytes(TypeAdapter(Settings).dump_json(settings))
        report, told = os.pipe()
        command = [sys.executable, "-P", "-m", "harness.server", str(file), str(told)]
        stop_s = settings.drain_timeout_ns / 1e9 + STOP_MARGIN_S
        try:
            with server_process(command, deployment.folder / "server.log", pass_fds=[told], stop_s=stop_s) as process:
                os.close(told)
                told = -1
                told_ports = _ports(report, process, deployment)
                endpoint = Endpoint(f"http://{deployment.host}:{told_ports['port']}", deployment.model)
                yield EmbeddedServer(process, deployment, endpoint, told_ports.get("grpc_port"))
        finally:
            os.close(report)
            if told >= 0:
                os.close(told)

    def settings(self, deployment: Deployment) -> Settings:
        """These options for one deployment, in ns and bytes."""
        return Settings(
            deployment=deployment,
            max_batch_size=self.max_batch_size,
            max_queue_delay_ns=round(self.max_queue_delay),
            preferred_batch_sizes=tuple(sorted(self.preferred_batch_sizes)),
            queue_limit=self.queue_limit,
            request_timeout_ns=round(self.request_timeout),
            read_timeout_ns=round(self.read_timeout),
            keep_alive_ns=round(self.keep_alive),
            drain_timeout_ns=round(self.drain_timeout),
            instances=self.instances,
            cache_bytes=round(self.cache),
            max_body_bytes=round(self.max_body),
            allow_not_finite=self.allow_not_finite,
            grpc_port=self.grpc_port,
        )


def _ports(report: int, process: ServerProcess, deployment: Deployment) -> dict[str, int]:
    """Where it listens, as it tells when the model is ready. Raises CannotMeasure with the end of its log."""
    line = line_from(report, deployment.start_timeout_s)
    if line is None:
        raise CannotMeasure(f"the server was not ready after {deployment.start_timeout_s:g} s", hint=process.log() or None)
    told = json.loads(line) if line else {"error": process.trouble() or "the server ended while it started"}
    if "error" in told:
        raise CannotMeasure(f"the server cannot serve this model: {told['error']}", hint=process.log() or None)
    return {name: int(port) for name, port in told.items() if port is not None}


PLUGIN = Embedded
