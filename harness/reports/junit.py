"""See Junit."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from harness.core.comparison import Comparison, SlaFinding, SlaState, Verdict
from harness.core.plugin import Options
from harness.core.result import TrialState
from harness.core.wording import sentence_of, sentence_of_sla, visible_change_of

if TYPE_CHECKING:
    from junitparser import Error, Failure, Skipped, TestCase, TestSuite

    from harness.core.result import RunResult, TrialRecord

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 may not hold even as an entity (its production 2, Char): control characters, lone surrogates."""


class Junit(Options):
    """JUnit XML for CI: one test case a comparison, an SLA clause and a trial."""

    file_name: ClassVar[str] = "junit.xml"

    def render(self, result: RunResult) -> bytes:
        """UTF-8. REGRESSED and BROKEN are failures, INVALID and FAILED are errors; what is not decided or not run is skipped with its
        reason. A suite is a scenario; its classes are trials."""
        from junitparser import JUnitXml

        xml = JUnitXml(name=_clean(f"harness {result.command}"))
        scenario_of = {trial.id: trial.scenario for trial in result.trials}
        cases: dict[str, list[TestCase]] = defaultdict(list)
        for trial in result.trials:
            cases[trial.scenario].append(_trial_case(trial))
        for comparison in result.comparisons:
            cases[scenario_of.get(comparison.trial, _scenario(comparison.trial))].append(_comparison_case(comparison))
        for finding in result.sla:
            cases[scenario_of.get(finding.trial, _scenario(finding.trial))].append(_sla_case(finding))
        for name, members in cases.items():
            xml.add_testsuite(_suite(name, members, result))
        if result.null_control is not None:
            xml.add_testsuite(_suite("null control", [_null_case(result)], result))
        xml.update_statistics()
        xml.time = _duration_s(result)
        text: bytes = xml.tostring()
        return text if text.startswith(b"<?xml") else b"<?xml version='1.0' encoding='utf-8'?>\n" + text


def _suite(name: str, cases: list[TestCase], result: RunResult) -> TestSuite:
    from junitparser import TestSuite

    suite = TestSuite(_clean(name))
    suite.timestamp = result.started_at.removesuffix("Z")
    suite.hostname = "localhost"  # what the Ant schema asks for where the host's name is not told
    suite.add_testcases(cases)
    return suite


def _trial_case(trial: TrialRecord) -> TestCase:
    from junitparser import Error, Skipped

    told = f"{trial.id}: {trial.state}: {trial.reason}"
    if trial.state is TrialState.FAILED or trial.verdict is Verdict.INVALID:
        return _case(trial.id, "trial", _filled(Error, told, str(Verdict.INVALID), "\n".join([told, *_evidence(trial)])))
    if trial.state is TrialState.SKIPPED:
        return _case(trial.id, "trial", _filled(Skipped, told, str(trial.state)))
    return _case(trial.id, "trial", output=told)


def _comparison_case(comparison: Comparison) -> TestCase:
    from junitparser import Error, Failure, Skipped

    told = sentence_of(comparison)
    whole = f"{told}\n{comparison.reason}\n{comparison.n} {comparison.n_of}; {comparison.method}"
    kind = str(comparison.verdict)
    if comparison.verdict is Verdict.INCONCLUSIVE or (comparison.advisory and comparison.verdict in (Verdict.REGRESSED, Verdict.INVALID)):
        outcome = _filled(Skipped, f"{told}. {comparison.reason}", kind)
    elif comparison.verdict is Verdict.REGRESSED:
        outcome = _filled(Failure, told, kind, whole)
    elif comparison.verdict is Verdict.INVALID:
        outcome = _filled(Error, f"{told}. {comparison.reason}", kind, whole)
    else:
        return _case(
            comparison.trial, comparison.metric, output=f"{whole}; the smallest change seen would be {visible_change_of(comparison)}"
        )
    return _case(comparison.trial, comparison.metric, outcome)


def _sla_case(finding: SlaFinding) -> TestCase:
    from junitparser import Failure, Skipped

    name, told, kind = f"SLA {finding.clause}", sentence_of_sla(finding), str(finding.state)
    if finding.state is SlaState.BROKEN:
        return _case(finding.trial, name, _filled(Failure, told, kind, told))
    if finding.state is SlaState.KEPT:
        return _case(finding.trial, name, output=told)
    return _case(finding.trial, name, _filled(Skipped, told, kind))


def _null_case(result: RunResult) -> TestCase:
    from junitparser import Error

    null = result.null_control
    assert null is not None
    sentences = "\n".join(sentence_of(comparison) for comparison in null.comparisons)
    if not null.red:
        return _case(null.trial, "baseline against itself", output=sentences)
    told = "identical code was called different: this machine is not fit for a verdict, and every red that rests on timings is INVALID"
    return _case(null.trial, "baseline against itself", _filled(Error, told, str(Verdict.INVALID), sentences))


def _case(trial: str, name: str, outcome: Failure | Error | Skipped | None = None, output: str | None = None) -> TestCase:
    from junitparser import TestCase

    case = TestCase(_clean(name), classname=_clean(trial), time=0.0)
    if outcome is not None:
        case.result = [outcome]
    if output is not None:
        case.system_out = _clean(output)
    return case


def _filled(
    element: type[Failure] | type[Error] | type[Skipped], message: str, kind: str, text: str | None = None
) -> Failure | Error | Skipped:
    made = element(_clean(message), kind)
    if text is not None:
        made.text = _clean(text)
    return made


def _evidence(trial: TrialRecord) -> list[str]:
    return [f"{failure.stage}: {failure.reason}: {failure.message}\n{failure.detail}".rstrip() for failure in trial.failures]


def _scenario(trial: str) -> str:
    """The scenario in a trial's identity, ``digits/int8-cpu-b1``, for findings on trials that the result does not hold."""
    return trial.partition("/")[0]


def _duration_s(result: RunResult) -> float:
    return (datetime.fromisoformat(result.finished_at) - datetime.fromisoformat(result.started_at)).total_seconds()


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


PLUGIN = Junit
