"""See Running."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import Options, RunningServer
from harness.core.serving import Deployment, Endpoint, ServerCounters
from harness.kserve import endpoint_file
from harness.kserve.client import Client, Refused, Unreachable, Untrusted
from harness.serving import _counters

ASKED_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """A server that others run: it has no processes here and no log.

    Its counters are those of its metrics page where one is named, else of the statistics extension where it has that.
    """

    endpoint: Endpoint
    metrics: tuple[Endpoint, str] | None
    health: str

    def pids(self) -> tuple[int, ...]:
        return ()

    def counters(self) -> ServerCounters | None:
        place, path = self.metrics or (self.endpoint, "")
        try:
            with Client(place, ASKED_TIMEOUT_S) as client:
                if not path:
                    return _counters.from_statistics(client.json(f"/v2/models/{self.endpoint.model}/stats"), self.endpoint.model)
                status, body, _ = client.ask("GET", path)
        except (Unreachable, Refused):
            return None
        return _counters.from_prometheus(body.decode(errors="replace"), self.endpoint.model) if status == 200 else None

    def trouble(self) -> str | None:
        try:
            with Client(self.endpoint, ASKED_TIMEOUT_S) as client:
                status, _, _ = client.ask("GET", self.health)
        except Unreachable as error:
            return str(error)
        return None if status == 200 else f"{self.endpoint.url}{self.health} answers with status {status}"

    def log(self) -> str:
        return ""


class Running(Options):
    """A server that runs already: the one that the ``endpoint`` source names. Nothing is started and nothing ended.

    Queue times and batch sizes are told by its statistics extension (``/v2/models/NAME/stats``: Triton and this program's own server have
    it), or by the Prometheus page that ``metrics_url`` names; where there is neither they are not told. ``health`` is asked to tell whether
    it still serves.
    """

    accepts: ClassVar[tuple[str, ...]] = (endpoint_file.FORMAT,)

    metrics_url: str | None = None
    health: str = "/v2/health/ready"

    @contextlib.contextmanager
    def serve(self, deployment: Deployment) -> Iterator[RunningServer]:
        """Raises CannotMeasure when it does not answer, does not say that the model is ready, or its metrics page does not tell of it."""
        if deployment.artifact.format not in self.accepts:
            hint = "serve it by 'server: embedded', or take the model from 'endpoint:'"
            raise CannotMeasure(f"'running' starts no server, and this artifact is {deployment.artifact.format}", hint=hint)
        endpoint = endpoint_file.read(deployment.artifact.path)
        server = RemoteServer(endpoint, self._metrics(endpoint), self.health)
        try:
            with Client(endpoint, ASKED_TIMEOUT_S) as client:
                ready = client.ready()
        except Untrusted as error:
            raise CannotMeasure(str(error), hint=error.hint) from error
        if (wrong := server.trouble()) is not None:
            raise CannotMeasure(wrong, hint="start the server, or correct 'model.endpoint'; its health path is set by 'health:'")
        if not ready:
            raise CannotMeasure(f"{endpoint.url} does not say that its model '{endpoint.model}' is ready")
        if self.metrics_url is not None and server.counters() is None:
            message = f"{self.metrics_url} does not tell of model '{endpoint.model}'"
            raise CannotMeasure(message, hint="name a metrics page of Triton or of this program's own server, or leave 'metrics_url' out")
        yield server

    def _metrics(self, endpoint: Endpoint) -> tuple[Endpoint, str] | None:
        """Its page, asked with the endpoint's authorities; with its headers only where it is the very same place."""
        if self.metrics_url is None:
            return None
        parts = urlsplit(self.metrics_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            hint = "write 'metrics_url: http://host:port/metrics'"
            raise BadInput(Problem(f"'{self.metrics_url}' is not a URL", key="server.running.metrics_url", hint=hint))
        url = f"{parts.scheme}://{parts.netloc}"
        headers = endpoint.headers if url == endpoint.url else ()
        return Endpoint(url, "", authorities=endpoint.authorities, headers=headers), parts.path or "/metrics"


PLUGIN = Running
