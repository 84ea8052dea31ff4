"""See EndpointSource."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from harness.core.artifact import AppliedStep, ModelArtifact, TensorSpec
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import BuildContext, Options, SourceFiles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.serving import Endpoint


class EndpointSource(Options):
    """A model that a server answers for already, by the Open Inference Protocol (KServe v2) over HTTP.

    Written ``endpoint: http://host:port/v2/models/NAME`` or ``endpoint: {url: http://host:port, name: NAME, version: "2"}``. What is
    behind it cannot be seen, and may be another model tomorrow under the same name and version: every look at it counts as new content, so
    it is always measured and never UNCHANGED. Its size is not known and stands as 0 bytes. Another machine than this one is asked only
    because the scenario names it. Over https its certificate is always verified.
    """

    short: ClassVar[str | None] = "url"
    produces: ClassVar[str] = "endpoint"

    url: str
    name: str = ""
    version: str = ""
    ca_file: str = Field("", description="For https: certificates (PEM) of the authorities that are trusted instead of the system's.")
    headers: dict[str, str] = Field(
        {}, description='Sent with each request; a secret by its environment variable: {Authorization: "Bearer ${env:TOKEN}"}.'
    )

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _can_be_sent(self) -> EndpointSource:
        from harness.kserve.headers import wrong_with

        if (wrong := wrong_with(self.headers)) is not None:
            raise ValueError(wrong)
        if self.ca_file and not self.url.startswith("https:"):
            raise ValueError("'ca_file' says whom to trust over https, and 'url' is not one of https")
        return self

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        """The place, and a name that never comes again: no two looks at an endpoint are known to find the same. Asks no network."""
        from harness.kserve import endpoint_file

        endpoint = endpoint_file.place(self.url, self.name, self.version)
        files = (scenario_folder / self.ca_file,) if self.ca_file else ()
        return SourceFiles(files=files, names=(endpoint.url + endpoint.infer_path, f"looked at, {uuid.uuid4().hex}"))

    def load(self, context: BuildContext) -> ModelArtifact:
        """Ask the server for the model's tensors and send one sample.

        Raises CannotMeasure when it does not answer, BadInput when it has no such model or the scenario's data do not fit it.
        """
        from harness.formats.files import digest_of
        from harness.kserve import endpoint_file
        from harness.kserve.client import Client, Refused, Unreachable, Untrusted, said
        from harness.kserve.codec import BadMessage, decode_response, encode_request

        endpoint = self._endpoint(context.scenario_folder)
        example = context.data("evaluation").batch(0, 1)
        try:
            with Client(endpoint) as client:
                told = client.metadata()
                inputs = endpoint_file.specs(told, "inputs") or _specs_of(example)
                batch = endpoint_file.fitted(example, inputs)
                status, body, length = client.infer_raw(encode_request(batch))
        except Untrusted as error:
            raise CannotMeasure(str(error), hint=error.hint) from error
        except Unreachable as error:
            raise CannotMeasure(str(error), hint=f"start the server, or correct '{endpoint_file.KEY}'") from error
        except Refused as error:
            raise _refused(error.status, f"{endpoint.url} does not tell of model '{endpoint.model}': {error}") from error
        if status != 200:
            raise _refused(status, f"{endpoint.url} refused a request for '{endpoint.model}': {said(status, body)}")
        try:
            answer = decode_response(body, length)
        except BadMessage as error:
            raise CannotMeasure(f"{endpoint.url} answered a request for '{endpoint.model}' with no valid answer: {error}") from error
        main = endpoint_file.write(context.folder, endpoint, told)
        hidden = "what it serves cannot be seen: no size, no digest of its weights"
        notes: tuple[str, ...] = (f"asked at {endpoint.url}{endpoint.infer_path}", hidden)
        if endpoint.headers and not endpoint.url.startswith("https:"):
            notes = (*notes, "its headers go over the network as they are: this is http, not https")
        return ModelArtifact(
            folder=context.folder,
            format=endpoint_file.FORMAT,
            main=main.name,
            inputs=inputs,
            outputs=endpoint_file.specs(told, "outputs") or _specs_of(answer),
            size_bytes=0,
            sha256=digest_of([main]),
            steps=(AppliedStep("endpoint", self.model_dump_json(), notes),),
        )

    def _endpoint(self, scenario_folder: Path) -> Endpoint:
        """The place with how it is asked. Raises BadInput where the certificates cannot be read."""
        from harness.kserve import endpoint_file, tls

        place = endpoint_file.place(self.url, self.name, self.version)
        authorities, file = "", scenario_folder / self.ca_file
        if self.ca_file:
            try:
                authorities = tls.certificates_in(file.read_text(encoding="utf-8", errors="replace"))
            except (OSError, ValueError) as error:
                told = getattr(error, "strerror", None) or str(error)
                raise BadInput(Problem(f"{file}: {told}", key=f"{endpoint_file.KEY}.ca_file")) from error
        return dataclasses.replace(place, authorities=authorities, headers=tuple(self.headers.items()))


def _refused(status: int, message: str) -> BadInput | CannotMeasure:
    """A server that cannot answer now is no mistake of the scenario's."""
    if status >= 500:
        return CannotMeasure(message)
    return BadInput(Problem(message, key="model.endpoint"))


def _specs_of(arrays: Mapping[str, NDArray[np.generic]]) -> tuple[TensorSpec, ...]:
    """Specs by example, where a server's metadata have none: the first axis is the batch."""
    return tuple(TensorSpec(name, str(values.dtype), (None, *values.shape[1:])) for name, values in arrays.items())


PLUGIN = EndpointSource
