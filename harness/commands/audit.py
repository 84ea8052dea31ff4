"""``harness audit``: evidence that a release keeps its SLA; ``harness audit verify``: whether such evidence holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.options import REPORTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.core.audit import Audit
    from harness.engine.audit.verify import Verification


class _WithVerify(click.Command):
    """``audit verify ...`` is a command of its own; whatever else comes first are scenarios and options."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        if args[:1] == ["verify"]:
            return verify.make_context(f"{info_name} verify", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=_WithVerify, short_help="Prove that a release keeps its SLA, or verify such a proof.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--release", required=True, metavar="NAME", help="What is audited, such as '1.4.0'.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="A .zip or .tar.gz; its folder is written beside it.  [default: reports/audit-NAME.zip]",
)
@click.option("--sign", "key", type=click.Path(path_type=Path), metavar="KEY", help="Sign with this SSH key.")
@click.option("--run", "run_name", metavar="RUN", help="Audit a saved run of this very content; nothing is measured.")
@click.option("--resume", metavar="RUN", help="Go on with an interrupted audit.")
@click.option(
    "--budget", metavar="TIME", help="What further launches may take where the scenario's own prove too little.  [default: 10 min]"
)
@click.option("--waivers", type=click.Path(path_type=Path), metavar="FILE", help="[default: waivers.yaml beside each scenario]")
@click.option("--allow-dirty", is_flag=True, help="Also of source that no commit stands for; the report says so.")
@click.option("--with-models", is_flag=True, help="Put the model files themselves into the bundle.")
@click.option("--no-pdf", "no_pdf", is_flag=True, help="Do not print the page as PDF with Chromium.")
@click.option("--json", "as_json", is_flag=True, help="Print the audit as JSON (docs/audit.md).")
@REPORTS
def audit(
    paths: tuple[Path, ...],
    release: str,
    output: Path | None,
    key: Path | None,
    run_name: str | None,
    resume: str | None,
    budget: str | None,
    waivers: Path | None,
    allow_dirty: bool,
    with_models: bool,
    no_pdf: bool,
    as_json: bool,
    reports: Path,
) -> None:
    """Measure scenarios until every promise of their SLA is proved, and write the evidence as a bundle.

    'harness audit verify BUNDLE' checks one. Exit codes: 0 all kept (or waived), 1 broken, 2 bad input, 3 unproven or unmeasured.
    """
    if not paths and resume is None:
        raise click.UsageError("name a scenario file or a folder of scenarios, such as 'scenarios/'")
    if run_name is not None and (resume is not None or budget is not None):
        raise click.UsageError("--run audits what was measured: neither --resume nor --budget goes with it")
    from harness.commands import _audit_steps as steps
    from harness.commands.duration import seconds_of

    order = steps.Order(
        paths=paths or steps.paths_of(reports, resume),
        release=release,
        archive=steps.archive_for(output, release, reports),
        key=key,
        run=run_name,
        resume=resume,
        budget_s=steps.BUDGET_S if budget is None else seconds_of(budget),
        waivers=waivers,
        allow_dirty=allow_dirty,
        with_models=with_models,
        no_pdf=no_pdf,
        reports=reports,
    )
    from harness.engine.progress_bar import shown_progress

    with shown_progress() as progress:
        made = steps.carry_out(order, progress)
    if as_json:
        from harness.engine.audit.make import AUDITS
        from harness.store.files import pretty_json

        click.echo(pretty_json(AUDITS.dump_python(made.audit, mode="json")).decode(), nl=False)
    else:
        for line in _lines(made.audit):
            click.echo(line)
    for line in made.told:
        click.echo(line, err=as_json)
    sys.exit(made.audit.exit_code)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--allowed-signers", type=click.Path(path_type=Path), metavar="FILE", help="Whose signatures count, as ssh-keygen reads it.")
@click.option("--signer", metavar="WHO", help="Who must have signed; any of the allowed signers where absent.")
@click.option("--as-of", metavar="DAY", help="The day on which waivers must count, as 2027-01-31.  [default: today, in UTC]")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON (docs/audit.md).")
def verify(bundle: Path, allowed_signers: Path | None, signer: str | None, as_of: str | None, as_json: bool) -> None:
    """Check a bundle with nothing but the bundle: every digest, and every figure once more from the raw data.

    Exit codes: 1 where it does not hold; where it holds, that of the audit: 0 all kept (or waived), 1 broken, 3 unproven or unmeasured.
    """
    if signer is not None and allowed_signers is None:
        raise click.UsageError("--signer is looked up in a file of allowed signers: give --allowed-signers too")
    from datetime import UTC, date, datetime

    from harness.core.errors import ExitCode
    from harness.engine.audit.page import page_of
    from harness.engine.audit.verify import verify as verify_bundle
    from harness.store.bundles import opened

    try:
        day = datetime.now(UTC).date() if as_of is None else date.fromisoformat(as_of)
    except ValueError as error:
        raise click.UsageError(f"--as-of '{as_of}' is not a day: write it as '2027-01-31'") from error
    with opened(bundle) as folder:
        found = verify_bundle(folder, page_of, allowed_signers, signer, today=day.isoformat())
    code = int(ExitCode.REGRESSION) if not found.holds or found.audit is None else found.audit.exit_code
    if as_json:
        click.echo(_json(found, code), nl=False)
    else:
        for line in _verified(bundle, found):
            click.echo(line)
    sys.exit(code)


def _lines(audit: Audit) -> Iterable[str]:
    """The verdict, then a line for each promise, its waivers below it."""
    from harness.core.audit import GRAVITY, loads_told
    from harness.core.plain_text import plain_text

    yield plain_text(f"release {audit.release}: {audit.headline}")
    for clause in sorted(audit.clauses, key=lambda clause: -GRAVITY.index(clause.state)):
        yield plain_text(f"{clause.state:<10}  {clause.clause}  {clause.trial}: {clause.reason}")
        for waiver in clause.waivers:
            counts = (
                "waived" if clause.waived_by(audit.day) is waiver else "waiver not needed" if clause.state == "KEPT" else "waiver expired"
            )
            yield plain_text(f"{'':<10}  {counts}: {waiver.who} until {waiver.until}: {waiver.why}")
    for trial in audit.trials:
        if trial.loads:
            yield plain_text(f"load of {trial.id}: {loads_told(trial.loads)}")
    for note in audit.notes:
        yield plain_text(f"note: {note}")


def _verified(bundle: Path, found: Verification) -> Iterable[str]:
    from harness.core.plain_text import plain_text

    if found.holds and found.audit is not None:
        launches = sum(trial.launches for trial in found.audit.trials)
        yield plain_text(
            f"{bundle} holds: {len(found.audit.clauses):,} promises follow from its raw data, {launches:,} launches among them"
        )
    else:
        yield plain_text(
            f"{bundle} DOES NOT HOLD: {len(found.problems):,} {'thing is' if len(found.problems) == 1 else 'things are'} wrong"
        )
    for problem in found.problems:
        yield plain_text(f"  {problem}")
    yield plain_text(f"signature: {found.signed.told}")
    for note in found.notes:
        yield plain_text(f"note: {note}")
    if found.audit is not None:
        yield "" if found.holds else "\nwhat its raw data give all the same:"
        yield from _lines(found.audit)


def _json(found: Verification, code: int) -> str:
    from harness.engine.audit.make import AUDITS
    from harness.store.files import pretty_json

    told = {
        "schema": 1,
        "holds": found.holds,
        "problems": list(found.problems),
        "signature": {"holds": found.signed.holds, "told": found.signed.told},
        "notes": list(found.notes),
        "exit_code": code,
        "audit": None if found.audit is None else AUDITS.dump_python(found.audit, mode="json"),
    }
    return pretty_json(told).decode()
