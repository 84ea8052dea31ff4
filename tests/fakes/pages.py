"""Every kind of page that this program writes, each full of what it can hold, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fakes import machines, results, served, told_audits
from fakes.trends import promise, trend

from harness.core.comparison import SlaState
from harness.core.profile import OperatorTime, Profile
from harness.core.purchase import Assumptions, Purchase
from harness.engine.audit.page import page_of
from harness.engine.compare_machines.compare import HOURS_A_MONTH, compare_runs
from harness.engine.compare_machines.prices import Prices
from harness.engine.compare_machines.read_runs import Named
from harness.reports.html import Html

EVIL = "<script>document.title = 'mine'</script><img src=x onerror=\"document.title='mine'\">"


def compared(*, hostile: bool = False) -> Purchase:
    """Four machines, one of them left out; ``hostile``: three, with markup where another machine could put it."""
    older = machines.PARTS | {"model": "9999ffff"}
    runs = [
        machines.run("relic", 150, price=0.1, parts=older, text=machines.TEXT.replace("width: 64", "width: 48"), recipes={"fp32": 0.4}),
        machines.run("small", 100, number=2, cores=1, states={"latency_p99": SlaState.BROKEN}, recipes={"fp32": 0.4}),
        machines.run("large-with-a-name-as-long-as-names-may-be", 190, price=2.1, number=3, recipes={"fp32": 0.4}),
        machines.run("twin", 190, price=2.1, number=4, recipes={"fp32": 0.4}, energy_j=0.3),
        machines.run("unpriced", 250, price=None, number=5, recipes={"fp32": 0.4}),
    ]
    if hostile:
        runs = [
            machines.run("a", parts=machines.PARTS | {"model": EVIL}, text=EVIL, program_version=EVIL),
            machines.run("b", number=2),
            machines.run("c", number=3, program_version=f"2{EVIL}"),
        ]
    said = Assumptions(0.6, "--utilisation", None, None, 0.15, HOURS_A_MONTH)
    return compare_runs([Named(None, one) for one in runs], Prices({}, {}), said, (50.0, 5_000.0))


def profiled() -> bytes:
    """A profile of a small encoder, with names as long as graphs give them."""
    operators = tuple(
        OperatorTime(f"/encoder/layers.{layer}/attention/{kind}", kind, "CPUExecutionProvider", 40, time * (layer + 2))
        for layer in range(6)
        for kind, time in (("MatMul", 900_000), ("Softmax", 210_000), ("LayerNormalization", 90_000), ("QuantizeLinear", 30_000))
    )
    return Html().profile_page("digits/int8-cpu-b1", Profile(40, 60_000_000, operators), "trace.json")


PAGES: dict[str, Callable[[], bytes]] = {
    "gate": lambda: Html().render(replace(results.result(), trends=(trend(), trend("throughput", at=())))),
    "run": lambda: Html().render(results.only_measured()),
    "hostile": lambda: Html().render(results.hostile()),
    "served": lambda: Html().render(served.result_under_load(results)),
    "suite": lambda: Html().render(results.suite(1_000)),
    "compare": lambda: Html().compare_page(compared()),
    "audit": lambda: page_of(told_audits.under_load()),
    "history": lambda: Html().trend_page(
        "github.com/owner/digits",
        [trend(), trend("load_time", at=())],
        [
            promise(),
            promise("int8.latency_p99: at most 20 ms", trial="digits-resnet50/int8-cpu-b1", room=0.12),
            promise("accuracy: at least 97 %", step=0),
        ],
    ),
    "profile": profiled,
}
