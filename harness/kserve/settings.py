"""What the embedded server is told, as the file that starts it says."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.serving import Deployment


@dataclass(frozen=True, slots=True)
class Settings:
    """A deployment and how it is served. Limits of 0 are off; ``cache_bytes`` 0 keeps no answers.

    ``max_batch_size`` and ``preferred_batch_sizes`` count samples, ``queue_limit`` requests that wait.
    """

    deployment: Deployment
    max_batch_size: int = 8
    max_queue_delay_ns: int = 0
    preferred_batch_sizes: tuple[int, ...] = ()
    queue_limit: int = 1024
    request_timeout_ns: int = 30_000_000_000
    read_timeout_ns: int = 30_000_000_000
    keep_alive_ns: int = 75_000_000_000
    drain_timeout_ns: int = 10_000_000_000
    instances: int = 1
    cache_bytes: int = 0
    max_body_bytes: int = 64 * 2**20
    allow_not_finite: bool = False
    grpc_port: int | None = None
    """0: any free one; None: no gRPC."""
