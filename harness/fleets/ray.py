"""See Ray."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.fleet import Fleet, Node, NodeLost
from harness.core.plugin import Options
from harness.plugins import require

if TYPE_CHECKING:
    from ray import ObjectRef, ObjectRefGenerator

log = logging.getLogger(__name__)
READY = "Ray runtime started"
PATIENCE_S = 20.0
ON_NODE = ("-P", "-m", "harness.commands._on_node")


class Host(BaseModel):
    """A machine that a node is started on: ``command`` runs ``ray`` there, such as ``ssh -tt edge-1 /opt/harness/bin/ray``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    command: str
    labels: dict[str, str] = {}
    cpus: int | None = Field(None, ge=1)
    gpus: int | None = Field(None, ge=0)


class Ray(Options):
    """Machines of a Ray cluster that runs already (address), or of one that is started on named hosts and ended afterwards."""

    extra: ClassVar[str | None] = "fleet"
    packages: ClassVar[tuple[str, ...]] = ("ray",)
    short: ClassVar[str | None] = "address"

    address: str | None = Field(None, description="host:port of a cluster that this machine is a node of")
    hosts: tuple[Host, ...] = Field((), description="machines to start nodes on, with a head without CPUs on this machine")
    start_timeout_s: float = Field(120.0, gt=0, description="what a started node may take until it is there")

    @model_validator(mode="after")
    def _one_of_both(self) -> Ray:
        if self.address is not None and self.hosts:
            raise ValueError("'address' is a cluster that runs, 'hosts' is one to be started: keep one")
        names = [host.name for host in self.hosts]
        if len(set(names)) != len(names):
            raise ValueError("two hosts have one name")
        return self

    @contextmanager
    def open(self) -> Iterator[Fleet]:
        """The nodes that have CPUs. Raises CannotMeasure when there is no cluster, or a host does not start."""
        require("ray", plugin="ray", extra="fleet")
        if self.address is None and not self.hosts:
            raise CannotMeasure("the fleet 'ray' has neither an address nor hosts", hint="write one of them, as docs/fleet.md shows")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        with ExitStack() as stack:
            stack.enter_context(redirect_stdout(cast("IO[str]", _ToLog())))
            address = self.address or self._start(stack)
            _check_listens(address)
            try:
                ray.init(address=address, log_to_driver=False, configure_logging=False)
            except (ConnectionError, RuntimeError, ValueError) as error:
                hint = f"on this machine: ray start --address {address} --num-cpus 0 makes it a node that measures nothing"
                raise CannotMeasure(f"no Ray cluster answers at {address}: {_reason(error)}", hint=hint) from error
            stack.callback(ray.shutdown)
            fleet = RayFleet()
            if self.hosts:
                self._wait(fleet)
            yield fleet

    def _start(self, stack: ExitStack) -> str:
        """A head here and a node on every host, each ended with the block; the address of the head."""
        from ray import util

        ray_util: Any = util  # without types

        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harness-fleet-", ignore_cleanup_errors=True)))
        head = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            f"--port={port}",
            "--num-cpus=0",
            "--include-dashboard=false",
        ]
        started = _Started("the head", [*head, *_WORKER_PORTS], logs / "head.log", stack)
        started.wait_until_ready(self.start_timeout_s)
        address = f"{ray_util.get_node_ip_address()}:{port}"
        for host in self.hosts:
            words = [*shlex.split(host.command), "start", f"--address={address}", f"--node-name={host.name}", *_WORKER_PORTS]
            words += [f"--num-cpus={host.cpus}"] if host.cpus is not None else []
            words += [f"--num-gpus={host.gpus}"] if host.gpus is not None else []
            words += [f"--labels={','.join(f'{name}={value}' for name, value in host.labels.items())}"] if host.labels else []
            _Started(f"host {host.name}", words, logs / f"{host.name}.log", stack).wait_until_ready(self.start_timeout_s)
        return address

    def _wait(self, fleet: RayFleet) -> None:
        end = time.monotonic() + self.start_timeout_s
        while missing := {host.name for host in self.hosts} - {node.name for node in fleet.nodes()}:
            if time.monotonic() > end:
                raise CannotMeasure(f"host {', '.join(sorted(missing))} did not join within {self.start_timeout_s:g} s")
            time.sleep(0.2)


_WORKER_PORTS = ("--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats", "--block")
"""Any free ports: two nodes on one machine would take the same from Ray's own range."""


class _Started:
    """A ``ray start --block`` that is ended with the block that it was started in, by its own process group."""

    def __init__(self, what: str, words: list[str], log: Path, stack: ExitStack) -> None:
        self.what, self.log = what, log
        try:
            with log.open("wb") as out:
                self.process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
                )
        except OSError as error:
            raise CannotMeasure(f"{what}: '{words[0]}' cannot be run: {error.strerror or error}") from error
        stack.callback(self.end)

    def wait_until_ready(self, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while READY not in (text := self.log.read_text(errors="replace")):
            if self.process.poll() is not None or time.monotonic() > end:
                last = " ".join(text.split("\n")[-6:]).strip()
                raise CannotMeasure(f"{self.what} did not start: {last or 'it said nothing'}")
            time.sleep(0.1)

    def end(self) -> None:
        self.process.terminate()  # 'ray start --block' ends the processes of its node, and no other
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class _ToLog:
    """Takes what Ray prints about its nodes, pages of it where one dies: standard output is for results."""

    def write(self, text: str) -> int:
        if text.strip():
            log.debug("ray: %s", text.rstrip())
        return len(text)

    def flush(self) -> None:
        return

    def isatty(self) -> bool:
        return False


class RayFleet:
    """The nodes of the cluster that this process is connected to."""

    def __init__(self) -> None:
        self.running: list[ObjectRefGenerator] = []
        self.sent: dict[int, ObjectRef[bytes]] = {}

    def nodes(self) -> tuple[Node, ...]:
        """Those that live and lend CPUs, by name."""
        import ray

        untyped: Any = ray
        alive = [node for node in untyped.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        names = [_name(node) for node in alive]
        return tuple(
            sorted(
                (
                    Node(
                        id=node["NodeID"],
                        name=name if names.count(name) == 1 else f"{name}-{node['NodeID'][:6]}",
                        labels={key: value for key, value in (node.get("Labels") or {}).items() if not key.startswith("ray.io/")},
                        cpus=int(node["Resources"]["CPU"]),
                        gpus=int(node["Resources"].get("GPU", 0)),
                    )
                    for node, name in zip(alive, names, strict=True)
                ),
                key=lambda node: node.name,
            )
        )

    def measure(self, order: bytes, project: bytes, node: Node) -> Iterator[bytes]:
        """All CPUs and GPUs that the node has are asked for, so that no other work of the cluster is given to it meanwhile."""
        import ray
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if id(project) not in self.sent:
            self.sent[id(project)] = ray.put(project)
        remote: Any = ray.remote(_carry_out)  # Ray's types know no streaming
        task = remote.options(
            num_cpus=node.cpus,
            num_gpus=node.gpus,
            max_retries=0,
            num_returns="streaming",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        )
        try:
            lines = task.remote(order, [self.sent[id(project)]])
            self.running.append(lines)
            for line in lines:
                yield ray.get(line)
        except RayError as error:
            raise NodeLost(_reason(error)) from error

    def stop(self) -> None:
        import ray

        for lines in self.running:
            ray.cancel(lines, force=False)


def _carry_out(order: bytes, project: list[ObjectRef[bytes]]) -> Iterator[bytes]:
    """On the node, in a worker of Ray's: the real work is a process of its own, with the environment that the node was started in."""
    import ray

    data = ray.get(project[0])
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, *ON_NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=_environment_of_node()
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(order)
                process.stdin.write(data)
                process.stdin.flush()
            for line in process.stdout:  # noqa: UP028 - Ray sends into what a 'yield from' hands on, and a file takes nothing
                yield line
            if process.wait() != 0:
                errors.seek(0)
                last = errors.read().decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
                raise RuntimeError(last[0])
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()  # it ends its workers, then itself
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _check_listens(address: str) -> None:
    """Ray itself tries for minutes, and then ends the whole process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise BadInput(
            Problem(f"'{address}' is no address of a Ray cluster", hint="write host:port, as 'ray start --head' told it, or FILE.yaml")
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise CannotMeasure(
            f"no Ray cluster answers at {address}: {error.strerror or error}", hint="its address is the one that 'ray start --head' told"
        ) from error


def _environment_of_node() -> Mapping[str, str]:
    """What the raylet was started with: Ray sets OMP_NUM_THREADS, CUDA_VISIBLE_DEVICES and others for its workers, and each would change
    what is measured."""
    parent = Path(f"/proc/{os.getppid()}/environ")
    try:
        pairs = (item.split("=", 1) for item in parent.read_text(errors="surrogateescape").split("\0") if "=" in item)
        return {name: value for name, value in pairs if not name.startswith("RAY_")}
    except OSError:
        return {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}


def _name(node: Mapping[str, object]) -> str:
    """What ``--node-name`` gave, else the host's name."""
    given = node.get("NodeName")
    return str(node["NodeManagerHostname"] if given in (None, "", node["NodeManagerAddress"]) else given)


def _reason(error: BaseException) -> str:
    """In one line: of an error on the node its own, which Ray keeps as the cause, else the first line of Ray's."""
    cause = getattr(error, "cause", None)
    told = cause if isinstance(cause, BaseException) else error
    lines = [line.strip() for line in str(told).splitlines() if line.strip()]
    return f"{type(told).__name__}: {lines[0].partition('. ')[0]}" if lines else type(told).__name__


PLUGIN = Ray
