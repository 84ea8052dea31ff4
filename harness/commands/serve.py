"""See ``serve``."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.engine.serve_trial import Served

LONGEST_INLINE = 600
"""A longer example request is named by its file."""
LOOK_S = 0.5


@click.command(short_help="Serve an optimized model over the network, with dynamic batching.")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--recipe", metavar="NAME", help="The recipe to build and serve; may be left out where the scenario has one.")
@click.option("--target", metavar="NAME", help="The hardware target.  [default: the scenario's first]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Samples of the largest request.  [default: the scenario's first size]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a key of the scenario.")
def serve(
    scenario: Path, recipe: str | None, target: str | None, batch_size: int | None, host: str, port: int, overrides: tuple[str, ...]
) -> None:
    """Serve a recipe's model under the scenario's name, by the server that the recipe names (docs/serving.md).

    Ends with Ctrl-C or SIGTERM, when what is under way is answered. There is no authentication: whoever reaches the address may ask.
    """
    from harness.core.errors import CannotMeasure
    from harness.engine.progress_bar import shown_progress
    from harness.engine.serve_trial import serve_trial

    stopped = threading.Event()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # while it is built and started it ends at once, as by Ctrl-C
    with shown_progress() as progress, serve_trial(scenario, overrides, recipe, target, batch_size, (host, port), progress) as served:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        click.echo("\n".join(_lines(served)))
        trouble = None
        while not stopped.wait(LOOK_S) and (trouble := served.server.trouble()) is None:
            pass
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler)  # a second Ctrl-C does not wait for what is under way
        if trouble is not None:
            raise CannotMeasure(trouble, hint=served.server.log() or None)
        counted = served.server.counters()
        if counted is not None:
            told = f"answered {counted.answered:,} requests in {counted.batches:,} batches, {counted.failed:,} failed"
            click.echo(f"stopping; {told}", err=True)


def _lines(served: Served) -> list[str]:
    endpoint = served.server.endpoint
    text = served.request.decode()
    data = f"'{text}'" if len(text) <= LONGEST_INLINE else f"@{served.request_file}"
    port = getattr(served.server, "grpc_port", None)
    by_grpc = "" if port is None else f", by gRPC on port {port}"
    return [
        f"{served.trial} is served by '{served.server_name}' as model '{endpoint.model}' at {endpoint.url}{by_grpc}",
        f"curl -s {endpoint.url}{endpoint.infer_path} -H 'Content-Type: application/json' -d {data}",
    ]
