"""What a scenario's recipe comes to, step by step, each in a process of its own that is forked from one with the frameworks imported.

The harness spawns its workers anew, 2 to 6 seconds of imports each; here the same code (``worker.serve``, the same messages) answers in a
fork, so that a hundred recipes can be tried in minutes. Nothing is measured.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock

from harness.core.artifact import ModelArtifact
from harness.core.errors import BadInput
from harness.core.measurement import SessionFacts
from harness.core.plan import Trial
from harness.core.plugin import Predictions
from harness.core.scenario import ScenarioFile
from harness.engine import protocol, toolchain
from harness.engine.content import derive
from harness.engine.datasets import read_predictions
from harness.engine.read_scenario import read_scenario
from harness.engine.worker import serve

IMPORTED = ("numpy", "torch", "torch.onnx", "torch.export", "onnx", "onnxscript")
"""What starts no thread when it is imported (onnxruntime and openvino do)."""
TIMEOUT_S = 300.0


class Refused(Exception):
    """A step said that it does not fit, in words for people."""


class Crashed(Exception):
    """A step fell over something that it did not foresee, or its process ended; the text ends with the traceback."""


@dataclass(frozen=True)
class Outcome:
    """A recipe that could be built, opened and asked."""

    artifact: ModelArtifact
    facts: SessionFacts
    predictions: Predictions

    @property
    def notes(self) -> str:
        """What the last step says that it did."""
        return " | ".join(self.artifact.steps[-1].notes)


class Forge:
    """Recipes by the content of their steps, each made once; several threads may ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, ModelArtifact | Exception] = {}
        self.drawn: dict[str, Path] = {}
        self.locks: defaultdict[str, Lock] = defaultdict(Lock)
        self.numbers = itertools.count(1)
        self.packages = toolchain.installed()
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(list(IMPORTED))

    def outcome(self, scenario: Path, recipe: str) -> Outcome:
        """Build, open and ask over the evaluation set. Raises Refused or Crashed."""
        try:
            file = read_scenario(scenario, root=scenario.parent)
        except BadInput as error:
            raise Refused(str(error)) from error
        trial = Trial(file, file.scenario.recipes[recipe], file.targets[0], 1)
        derivation = derive(trial, self.packages)
        data = {role: self._data(file, role, key) for role, key in derivation.data.items()}
        artifact: ModelArtifact | None = None
        for step in derivation.steps:
            request = protocol.BuildStep(
                plugin=step.plugin,
                artifact=artifact,
                args=file.scenario.model.args,
                data={role: data[role] for role in step.reads},
                seed=file.scenario.seed,
                device="cpu",
                scenario_folder=file.folder.resolve(),
                root=file.root.resolve(),
                into=self._new("step"),
            )
            artifact = self._made(step.key, request)
        assert artifact is not None
        return self._answers(trial, artifact, data["evaluation"])

    def _made(self, key: str, request: protocol.BuildStep) -> ModelArtifact:
        with self.locks[key]:
            if key not in self.made:
                try:
                    (reply,) = self._ask(request)
                    assert isinstance(reply, protocol.Built)
                    self.made[key] = replace(reply.artifact, folder=request.into)
                except (Refused, Crashed) as error:
                    self.made[key] = error
        made = self.made[key]
        if isinstance(made, Exception):
            raise made
        return made

    def _answers(self, trial: Trial, artifact: ModelArtifact, data: Path) -> Outcome:
        load = trial.source.scenario.measure.load
        subject = protocol.Subject(artifact, trial.recipe.runtime, load, trial.source.folder.resolve(), "cpu", 1, (), 1, data)
        into = self._new("answers") / "predictions.npz"
        *_, finished = self._ask(protocol.Preload(subject), protocol.Open(), protocol.Predict(into), protocol.Finish())
        assert isinstance(finished, protocol.Finished)
        return Outcome(artifact, finished.facts, read_predictions(into, trial.source.scenario.data.task))

    def _data(self, file: ScenarioFile, role: str, key: str) -> Path:
        with self.locks[key]:
            if key not in self.drawn:
                into = self._new("data") / "data.npz"
                scenario = file.scenario
                self._ask(protocol.MakeData(scenario.data, role, scenario.seed, file.folder.resolve(), file.root.resolve(), into))
                self.drawn[key] = into
        return self.drawn[key]

    def _ask(self, *requests: protocol.Request) -> list[protocol.Reply]:
        """The answers of one process to requests in turn."""
        ours, theirs = self.processes.Pipe()
        log = self._new("log") / "out.txt"
        process = self.processes.Process(target=_serve, args=(theirs, log))
        process.start()
        theirs.close()
        replies = []
        try:
            for request in requests:
                ours.send_bytes(protocol.REQUEST.dump_json(request))
                if not ours.poll(TIMEOUT_S):
                    raise Crashed(f"'{request.kind}' took longer than {TIMEOUT_S:g} s")
                replies.append(_sound(protocol.REPLY.validate_json(ours.recv_bytes())))
        except (EOFError, ConnectionResetError, BrokenPipeError) as error:
            process.join(10)
            raise Crashed(f"the process ended with {process.exitcode}:\n{log.read_text(errors='replace')[-4000:]}") from error
        finally:
            ours.close()
            process.join(10)
            if process.is_alive():
                process.kill()
        return replies

    def _new(self, kind: str) -> Path:
        folder = self.folder / f"{next(self.numbers):04d}-{kind}"
        folder.mkdir()
        return folder


def _sound(reply: protocol.Reply) -> protocol.Reply:
    if not isinstance(reply, protocol.Failed):
        return reply
    raised = re.findall(r"^([\w.]+)(?::|$)", reply.failure.detail, re.MULTILINE)
    if reply.bad_input or (raised and raised[-1].startswith("harness.core.errors.")):
        raise Refused(reply.failure.message)
    raise Crashed(f"{reply.failure.message}\n{reply.failure.detail}")


def _serve(connection: Connection, log: Path) -> None:
    with log.open("wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        serve(connection)
