"""See Locust."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, cast

from pydantic import AfterValidator, Field, model_validator
from pydantic.json_schema import WithJsonSchema

from harness.core.errors import BadInput, Problem
from harness.core.plugin import Options, SourceFiles
from harness.core.scenario import Count, Duration, Rate, quantity_of, quantity_pattern
from harness.core.units import Unit, spellings_of
from harness.loads._load_shapes import Arrivals, Ramp, Spike, Stretch, with_spike
from harness.loads._ssh import GeneratorHost, an_address

if TYPE_CHECKING:
    from harness.core.plugin import Driven, LoadJob

DEFAULT_PER_S = 100.0
TIME_SCHEMA = {"type": "string", "pattern": quantity_pattern(*spellings_of(Unit.NANOSECONDS)), "examples": ["2 s", "0 s"]}
MaybeNoTime = Annotated[float, quantity_of(Unit.NANOSECONDS, "2 s"), Field(ge=0), WithJsonSchema(TIME_SCHEMA)]
"""A time that may be 0."""
GENERATORS_SCHEMA = {"type": "array", "items": {"anyOf": [{"type": "string"}, GeneratorHost.model_json_schema()]}}


class Locust(Options):
    """Requests over the network by Locust, at a rate that does not wait for the server or by users who do.

    Written ``locust: {rate: 200 /s, duration: 20 s}``. With a rate (or ``ramp`` or ``steps``) the loop is open: each request is due at a
    time drawn from the scenario's seed, the same for both arms, and its latency counts from then. With ``users`` the loop is closed:
    each sends again when it is answered, and latency counts from the send. docs/load.md says how each number is computed.
    """

    extra: ClassVar[str | None] = "load"
    packages: ClassVar[tuple[str, ...]] = ("locust", "geventhttpclient")

    rate: Rate | None = Field(None, description="Requests a second; 100 /s where nothing says how much.")
    ramp: Annotated[Ramp, WithJsonSchema(Ramp.model_json_schema())] | None = Field(
        None, description="Instead of one rate, a straight line: {from: 50 /s, to: 400 /s}."
    )
    steps: tuple[Rate, ...] = Field((), description="Instead of one rate, rates that follow each other for equal parts of the duration.")
    spike: Annotated[Spike, WithJsonSchema(Spike.model_json_schema())] | None = Field(
        None, description="With a rate: many times as much for a while, {factor: 10, at: 5 s, for: 5 s}."
    )
    users: Annotated[Count, Field(le=10_000)] | None = Field(None, description="Instead of a rate, so many who wait for their answers.")
    arrivals: Arrivals = Field("poisson", description="Gaps between requests: drawn, or all alike.")
    duration: Duration = Field(cast(float, "20 s"), validate_default=True, description="The measured time.")
    ramp_up: MaybeNoTime = Field(
        cast(float, "2 s"), validate_default=True, description="Before it, at the rate of its beginning; these requests are not counted."
    )
    timeout: Duration = Field(
        cast(float, "10 s"), validate_default=True, description="A request that is not answered so long after it was due has failed."
    )
    connections: Annotated[Count, Field(le=10_000)] = Field(
        256, description="Most requests in flight at a rate; further ones wait, and their latency goes on."
    )
    processes: Annotated[Count, Field(le=64)] = Field(
        1, description="Generator processes on each machine that sends, which share the schedule or the users."
    )
    generators: Annotated[tuple[GeneratorHost, ...], WithJsonSchema(GENERATORS_SCHEMA)] = Field(
        (),
        description="Other machines that send instead of this one, by ssh: [edge-1, {host: me@edge-2, python: /opt/harness/bin/python}].",
    )
    server_host: Annotated[str, AfterValidator(an_address)] | None = Field(
        None,
        description="Where the server of each launch listens: an address of this machine that generators reach, not 127.0.0.1.",
    )
    locustfile: str | None = Field(
        None, description="A Locust file of your own, relative to the scenario, with 'users' or a LoadTestShape in the file."
    )
    requests_limit: Annotated[Count, Field(le=20_000_000)] = Field(1_000_000, description="No load sends more requests than this.")
    allow_host: str | None = Field(None, description="The one host beside this machine that may be sent to.")

    @model_validator(mode="after")
    def _says_how_much_once(self) -> Locust:
        said = [name for name in ("rate", "ramp", "steps", "users") if getattr(self, name) not in (None, ())]
        if len(said) > 1:
            raise ValueError(f"'{said[0]}' and '{said[1]}' both say how much is sent: keep one")
        if self.locustfile is not None and said not in ([], ["users"]):
            raise ValueError("a Locust file's users wait for their answers: say how many with 'users' or a LoadTestShape, and no rate")
        if self.spike is not None:
            self._check_spike(self.spike)
        names = [one.host for one in self.generators]
        if len(set(names)) < len(names):
            raise ValueError("a host is named twice in 'generators': 'processes' says how many there are on each")
        if not self.is_closed and (count := sum(stretch.expected for stretch in self.curve())) > self.requests_limit:
            raise ValueError(
                f"this is about {count:,.0f} requests, and 'requests_limit' is {self.requests_limit:,}: shorten 'duration' or raise it"
            )
        return self

    def _check_spike(self, spike: Spike) -> None:
        if self.ramp is not None or self.steps or self.is_closed:
            raise ValueError("a 'spike' is of one rate: write 'rate: 100 /s' with it")
        if spike.at + spike.lasts >= self.duration:
            raise ValueError("the 'spike' ends after 'duration': leave time in which the server can recover")

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        """The user's own Locust file, which decides what is sent."""
        return SourceFiles(code=() if self.locustfile is None else (scenario_folder / self.locustfile,))

    @property
    def is_closed(self) -> bool:
        """Whether users send, who wait for their answers: so many, or as a Locust file's LoadTestShape says."""
        return self.users is not None or self.locustfile is not None

    @property
    def comes_from_elsewhere(self) -> bool:
        return bool(self.generators)

    @property
    def per_s(self) -> float | None:
        """The one rate of an open loop; None for a closed one, and where the rate changes but for a spike."""
        if self.is_closed or self.ramp is not None or self.steps:
            return None
        return DEFAULT_PER_S if self.rate is None else self.rate

    @property
    def is_even(self) -> bool:
        """Whether the load is the same from its beginning to its end."""
        return self.users is not None or (self.per_s is not None and self.spike is None)

    def curve(self) -> tuple[Stretch, ...]:
        """The rate over the lead-in and the measured time; empty for users."""
        duration = round(self.duration)
        if self.is_closed:
            return ()
        if self.ramp is not None:
            measured: tuple[Stretch, ...] = (Stretch(duration, self.ramp.start, self.ramp.to),)
        elif self.steps:
            edges = [duration * number // len(self.steps) for number in range(len(self.steps) + 1)]
            measured = tuple(Stretch(edges[i + 1] - edges[i], rate, rate) for i, rate in enumerate(self.steps))
        else:
            per_s = self.per_s or DEFAULT_PER_S
            measured = with_spike(Stretch(duration, per_s, per_s), self.spike)
        begin = measured[0].from_per_s
        return (Stretch(round(self.ramp_up), begin, begin), *measured) if self.ramp_up else measured

    def drive(self, job: LoadJob) -> Driven:
        """Run the load; see docs/load.md. Raises BadInput for a host that is not named and for a Locust file that cannot be used,
        CannotMeasure when a generator fails, MissingPackage without Locust."""
        from harness import plugins
        from harness.loads import _drive

        for package in self.packages:
            plugins.require(package, plugin="locust", extra="load")
        return _drive.drive(self, job)

    def at_rate(self, rate_per_s: float, duration_ns: int) -> Locust:
        """The same load at one constant rate, for ``duration_ns``. Raises BadInput for a Locust file, whose users have no rate."""
        if self.locustfile is not None:
            told = "a capacity is a rate, and the users of a Locust file have none"
            raise BadInput(Problem(told, key="measure.load.locust.locustfile", hint="look for the capacity with 'rate' and no Locust file"))
        plain = {"ramp": None, "steps": (), "spike": None, "users": None}
        return self.model_copy(update={**plain, "rate": rate_per_s, "duration": float(duration_ns)})


PLUGIN = Locust
