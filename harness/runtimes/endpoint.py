"""See EndpointRuntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import Field

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session
from harness.core.scenario import Duration
from harness.kserve.codec import Message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.kserve.client import Client


class RemoteSession:
    """One connection to an endpoint: a query is one request, and ends with the last byte of its answer."""

    def __init__(self, artifact: ModelArtifact, client: Client) -> None:
        self._artifact = artifact
        self._client = client

    @property
    def facts(self) -> SessionFacts:
        """Nothing of what runs there can be seen; ``threads`` 0 is not known."""
        endpoint = self._client.endpoint
        told = ("a query is one request: its latency holds the network and the server's own queue", "load time is that of connecting")
        return SessionFacts("remote", "unknown", 0, (f"{endpoint.url}{endpoint.infer_path}", *told))

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> Message:
        """The request's bytes. Raises BadInput when names, dtypes or shapes are not the model's."""
        from harness.kserve import codec, endpoint_file

        return codec.encode_request(endpoint_file.fitted(batch, self._artifact.inputs))

    def run(self, prepared: object) -> tuple[bytes, int | None]:
        """Body and the length of its JSON part. Raises CannotMeasure, with the server's words, for any answer but a good one."""
        from harness.kserve.client import Unreachable, said

        try:
            status, body, length = self._client.infer_raw(cast("Message", prepared))
        except Unreachable as error:
            raise CannotMeasure(str(error)) from error
        if status != 200:
            raise CannotMeasure(f"{self._client.endpoint.url} refused a request: {said(status, body)}")
        return body, length

    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]:
        """In the order of the answer. Raises CannotMeasure where it cannot be read."""
        from harness.kserve.codec import BadMessage, decode_response

        body, length = cast("tuple[bytes, int | None]", raw)
        try:
            return tuple(decode_response(body, length).values())
        except BadMessage as error:
            raise CannotMeasure(f"the answer cannot be read: {error}") from error


class EndpointRuntime(Options):
    """Asks the ``endpoint`` source's server, one request at a time over one kept connection.

    ``timeout`` is of one request. What really runs there, on what and in which precision, is not known and is told so.
    """

    accepts: ClassVar[tuple[str, ...]] = ("endpoint",)
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    timeout: Duration = Field(cast(float, "30 s"), validate_default=True)

    def preload(self, artifact: ModelArtifact) -> None:
        return

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        """Connect. Raises CannotMeasure when the model is not ready there, or is not to be trusted."""
        from harness.kserve import endpoint_file
        from harness.kserve.client import Client, Untrusted

        with Client(endpoint_file.read(artifact.path), self.timeout / 1e9) as client:
            try:
                ready = client.ready()
            except Untrusted as error:
                raise CannotMeasure(str(error), hint=error.hint) from error
            if not ready:
                raise CannotMeasure(f"{client.endpoint.url} does not say that its model '{client.endpoint.model}' is ready")
            yield RemoteSession(artifact, client)


PLUGIN = EndpointRuntime
