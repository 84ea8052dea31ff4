"""Which launches are forked, and from which template: no process is started here."""

import dataclasses
import json
import socket
import sys
from pathlib import Path

import pytest

from harness.core.scenario import PluginRef
from harness.engine import launcher as launchers
from harness.engine.launcher import PAIRS_OF_A_TEMPLATE, Launcher, Template, TemplateFailed
from harness.engine.workers import Seat, spawn

ARMS = ("baseline", "candidate")


class FakeProcess:
    def __init__(self):
        self.code = None

    def poll(self):
        return self.code


class FakeTemplate:
    """A template that counts as a process does, and has none."""

    def __init__(self, subjects, seat):
        self.subjects, self.seat = subjects, seat
        self.process = FakeProcess()
        self.pairs_left = PAIRS_OF_A_TEMPLATE
        self.ended = 0

    def end(self):
        self.ended += 1


class Desk:
    """A launcher, the templates that it has started, and a pair of arms that may be forked."""

    def __init__(self, monkeypatch, runs):
        self.started = []
        self.refusal = None
        self.subject = runs.subject()
        self.launcher = Launcher()
        monkeypatch.setattr(launchers, "_start_template", self.start)
        monkeypatch.setattr(launchers, "_has_pidfd", lambda: True)

    def start(self, subjects, seat):
        if self.refusal is not None:
            raise TemplateFailed(self.refusal)
        self.started.append(FakeTemplate(subjects, seat))
        return self.started[-1]

    def pair(self, baseline=(), candidate=(), **subject):
        """How both arms of a pair are started, with these changes of the arms' seats, and of the subject of both."""
        arms = dict.fromkeys(ARMS, dataclasses.replace(self.subject, **subject))
        return self.starts(arms, {"baseline": dict(baseline), "candidate": dict(candidate)})

    def starts(self, arms, changes=()):
        seats = {
            arm: dataclasses.replace(Seat(arm, subject.cores, subject.threads, Path("logs", arm)), **dict(changes).get(arm, {}))
            for arm, subject in arms.items()
        }
        found = self.launcher.starts(arms, seats)
        assert found.keys() == arms.keys()
        return [found[arm] for arm in arms]


@pytest.fixture
def desk(monkeypatch, runs):
    return Desk(monkeypatch, runs)


def own(folder):
    return {"runtime": PluginRef(name="./own.py"), "scenario_folder": Path(folder)}


def test_both_arms_are_forked_from_one_template_that_knows_both(desk):
    arms = {"baseline": desk.subject, "candidate": dataclasses.replace(desk.subject, batch_size=8)}
    starts = desk.starts(arms)
    (template,) = desk.started
    assert starts == [template, template]
    assert template.subjects == list(arms.values())


def test_a_subject_that_both_arms_share_is_told_once(desk):
    desk.pair()
    assert desk.started[0].subjects == [desk.subject]


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_what_runs_on_a_gpu_is_spawned(desk, device):
    assert desk.pair(device=device) == [spawn, spawn]
    assert desk.starts({"baseline": desk.subject, "candidate": dataclasses.replace(desk.subject, device=device)}) == [spawn, spawn]
    assert desk.started == []


def test_a_launcher_that_is_told_not_to_fork_spawns(desk):
    desk.launcher = Launcher(fork=False)
    assert desk.pair() == [spawn, spawn]
    assert desk.started == []


def test_where_the_end_of_another_s_child_cannot_be_waited_for_launches_are_spawned(desk, monkeypatch):
    monkeypatch.setattr(launchers, "_has_pidfd", lambda: False)
    assert desk.pair() == [spawn, spawn]
    assert desk.started == []


@pytest.mark.parametrize(
    "change", [{"python": Path("/old/python")}, {"threads": 2}, {"cores": (1,)}], ids=lambda change: next(iter(change))
)
def test_arms_that_no_single_template_can_serve_are_both_spawned(desk, change):
    assert desk.pair(baseline=change) == [spawn, spawn]
    assert desk.started == []


def test_a_runtime_of_the_user_s_own_is_forked_where_both_arms_have_it_from_one_folder(desk):
    assert desk.pair(**own("new")) == desk.started * 2
    arms = {arm: dataclasses.replace(desk.subject, **own(folder)) for arm, folder in zip(ARMS, ("old", "new"), strict=True)}
    assert desk.starts(arms) == [spawn, spawn]
    built_in = {arm: dataclasses.replace(desk.subject, scenario_folder=Path(folder)) for arm, folder in zip(ARMS, ("a", "b"), strict=True)}
    assert desk.starts(built_in) == [desk.started[1]] * 2


@pytest.mark.parametrize(
    "change", [{"python": Path("/other/python")}, {"threads": 2}, {"cores": (1,)}], ids=lambda change: next(iter(change))
)
def test_another_seat_needs_another_template(desk, change):
    desk.pair()
    assert desk.pair(change, change) == [desk.started[1]] * 2
    assert desk.pair() == [desk.started[0]] * 2
    assert getattr(desk.started[1].seat, next(iter(change))) == next(iter(change.values()))


def test_another_artifact_needs_another_template(desk, runs):
    desk.pair()
    assert desk.pair(artifact=runs.artifact(size_bytes=2048)) == [desk.started[1]] * 2


def test_where_the_logs_go_and_how_the_environment_is_padded_need_no_other_template(desk):
    desk.pair()
    desk.pair({"padding_bytes": 7, "log": Path("elsewhere")}, {"padding_bytes": 7, "log": Path("elsewhere")})
    assert len(desk.started) == 1


def test_which_arm_comes_first_needs_no_other_template(desk):
    arms = {"baseline": desk.subject, "candidate": dataclasses.replace(desk.subject, batch_size=8)}
    desk.starts(arms)
    desk.starts(dict(reversed(arms.items())))
    assert len(desk.started) == 1


def test_a_template_serves_so_many_pairs_and_ends_before_the_next(desk):
    first = [desk.pair()[0] for _ in range(PAIRS_OF_A_TEMPLATE)]
    assert first == [desk.started[0]] * PAIRS_OF_A_TEMPLATE and desk.started[0].ended == 0
    assert desk.pair() == [desk.started[1]] * 2
    assert [template.ended for template in desk.started] == [1, 0]


def test_a_template_that_is_used_up_ends_before_the_next_pair_of_any_trial(desk):
    for _ in range(PAIRS_OF_A_TEMPLATE):
        desk.pair()
    desk.pair(batch_size=8)
    assert [template.ended for template in desk.started] == [1, 0]


def test_a_template_that_has_died_is_replaced(desk):
    desk.pair()
    desk.started[0].process.code = -9
    assert desk.pair() == [desk.started[1]] * 2
    assert desk.started[0].ended == 1


def test_a_refusal_is_told_once_and_holds_for_what_was_refused(desk, caplog):
    caplog.set_level("INFO")
    desk.refusal = "2 threads run after the imports"
    assert desk.pair() == [spawn, spawn]
    desk.refusal = None
    assert desk.pair() == [spawn, spawn]
    assert caplog.messages == ["launches of baseline, candidate are spawned: 2 threads run after the imports"]
    assert desk.pair(batch_size=8) == [desk.started[0]] * 2


def test_no_template_outlives_the_block(desk):
    with desk.launcher:
        desk.pair()
        desk.pair(batch_size=8)
    assert [template.ended for template in desk.started] == [1, 1]


def test_a_launcher_forks_nothing_before_it_is_asked():
    with Launcher() as launcher:
        assert launcher.fork and launcher._templates == {}


@pytest.fixture
def line():
    """A template without a process, and the other end of its line."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield Template(FakeProcess(), ours), theirs


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="sockets of whole messages as Linux has them")


@on_linux
def test_a_reply_that_nobody_waited_for_is_not_taken_for_the_next_one(line):
    template, theirs = line
    template.asked = 1  # and Ctrl-C came before the reply did
    theirs.send(json.dumps({"number": 1, "pid": 4242}).encode())
    theirs.send(json.dumps({"number": 2, "code": 7}).encode())
    assert template.ask({"do": "wait", "pid": 41})["code"] == 7
    assert json.loads(theirs.recv(1000)) == {"do": "wait", "pid": 41, "number": 2}


@on_linux
@pytest.mark.parametrize("told", [[], [{"number": 1, "pid": 4242}]], ids=["silent", "after an old reply"])
def test_a_template_that_hangs_up_has_failed(line, told):
    template, theirs = line
    template.asked = 1
    for reply in told:
        theirs.send(json.dumps(reply).encode())
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(TemplateFailed, match="it has ended"):
        template.ask({"do": "wait", "pid": 41})


@on_linux
def test_a_template_whose_line_is_cut_has_failed(line):
    template, theirs = line
    theirs.close()
    with pytest.raises(TemplateFailed, match="Broken pipe"):
        template.ask({"do": "wait", "pid": 41})
