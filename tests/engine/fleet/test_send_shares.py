"""Shares on the nodes of a fleet that exists only in memory: who gets what, and what becomes of it when a node is lost."""

import threading

import pytest
from fakes.cases import trial

from harness.core.errors import BadInput, Problem
from harness.core.fleet import Node, NodeLost
from harness.core.plan import SkippedTrial, Trial
from harness.core.progress import Silent
from harness.core.scenario import HardwareTarget, Requirements
from harness.engine.fleet.order import Done, Journal, Refused, Step, event_line
from harness.engine.fleet.send_shares import send_shares
from harness.engine.fleet.shares import Share, shares_of

LAUNCH = '{"kind":"launch"}\n'


def node(name, cpus=4, gpus=0, **labels):
    return Node(name, name, labels, cpus, gpus)


def share(scenario="tiny", *, recipes=("plain",), cores=None, device="cpu", **labels):
    target = HardwareTarget(name="t", labels=labels, cores=cores, device=device)
    found = [trial(recipe, name=scenario) for recipe in recipes]
    return Share(tuple(Trial(one.source, one.recipe, target, 1) for one in found))


class FleetInMemory:
    """``does`` is what each node answers, event by event; an exception is raised. ``most`` is how many worked at once on one node."""

    def __init__(self, *nodes, does=None):
        self.all, self.does, self.dead = nodes, does or {}, set()
        self.begun, self.working, self.most, self.stopped = [], [], {}, threading.Event()

    def nodes(self):
        return tuple(one for one in self.all if one.id not in self.dead)

    def measure(self, order, project, node):
        self.begun.append((order.decode(), node.id))
        self.working.append(node.id)
        self.most[node.id] = max(self.most.get(node.id, 0), self.working.count(node.id))
        try:
            for event in self.does.get(node.id, [Step("at work"), Journal(LAUNCH), Done(b"run")]):
                if event == "hangs":
                    assert self.stopped.wait(30)
                    raise NodeLost("stopped")
                if isinstance(event, Exception):
                    self.dead.add(node.id)
                    raise event
                yield event_line(event)
        finally:
            self.working.remove(node.id)

    def stop(self):
        self.stopped.set()


class Kept:
    def __init__(self, damaged=()):
        self.damaged, self.came = damaged, []

    def order(self, share, node):
        return share.name.encode(), b"project"

    def lines(self, share, node, text):
        return text.count("launch")

    def done(self, share, node, archive):
        if node.id in self.damaged:
            raise BadInput(Problem("is damaged"))
        self.came.append((share.name, node.id, archive))


def sent(fleet, *shares, keeper=None, retries=1):
    return send_shares(fleet, shares, keeper or Kept(), Silent(), retries=retries)


def test_a_share_goes_to_the_node_that_has_its_labels_and_nowhere_else():
    fleet = FleetInMemory(node("a", hw="big"), node("b", hw="edge", zone="north"), node("c"))
    (fate,) = sent(fleet, share(hw="edge"))
    assert fate.node.name == "b" and fleet.begun == [("tiny-t", "b")]


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({"hw": "a"}, True),
        ({"hw": "b"}, False),
        ({"hw": "a", "zone": "b"}, False),
        ({"hw": "a", "cores": 4}, True),
        ({"hw": "a", "cores": 5}, False),
        ({"hw": "a", "device": "cuda"}, False),
    ],
)
def test_labels_cores_and_a_gpu_are_looked_for(wanted, fits):
    assert share(**wanted).fits(node("n", cpus=4, hw="a")) is fits


def test_required_cores_count_as_those_that_are_pinned():
    target = HardwareTarget(name="t", labels={"hw": "a"}, requires=Requirements(cores=8))
    one = trial()
    assert not Share((Trial(one.source, one.recipe, target, 1),)).fits(node("n", cpus=4, hw="a"))


def test_a_node_has_one_share_at_a_time_and_free_ones_work_beside_it():
    fleet = FleetInMemory(node("a", hw="x"), node("b", hw="x"))
    keeper = Kept()
    fates = sent(fleet, *(share(f"s{number}", hw="x") for number in range(6)), keeper=keeper)
    assert {fate.node.name for fate in fates} == {"a", "b"}
    assert fleet.most == {"a": 1, "b": 1}
    assert sorted(name for name, _, _ in keeper.came) == [f"s{number}-t" for number in range(6)]


def test_a_lost_node_costs_its_own_share_only_and_that_is_made_up_elsewhere():
    fleet = FleetInMemory(node("a", hw="x"), node("b", hw="x"), does={"a": [Journal(LAUNCH), NodeLost("its power went")]})
    first, second = sent(fleet, share("one", hw="x"), share("two", hw="x"))
    assert (first.node.name, second.node.name) == ("b", "b")
    assert first.losses == ["node a was lost after 1 of 5 launches (its power went)"] and second.losses == []
    assert sorted(fleet.begun) == [("one-t", "a"), ("one-t", "b"), ("two-t", "b")]


def test_where_no_other_node_fits_the_loss_is_named():
    fleet = FleetInMemory(node("a", hw="x"), node("b", hw="y"), does={"a": [NodeLost("its power went")]})
    (fate,) = sent(fleet, share(hw="x"))
    assert fate.node is None
    assert fate.reason == (
        "node a was lost after 0 of 5 launches (its power went), and no other node of the fleet has labels hw=x (nodes: b (hw=y; 4 CPUs))"
    )


def test_a_label_that_no_node_has_is_named_and_nothing_waits_for_it():
    fleet = FleetInMemory(node("a", cpus=1, hw="x"))
    wrong, right = sent(fleet, share("one", hw="z", cores=2), share("two", hw="x"))
    assert wrong.reason == "no node of the fleet has labels hw=z, 2 cores (nodes: a (hw=x; 1 CPU))"
    assert right.node.name == "a"


@pytest.mark.parametrize(("retries", "tried"), [(0, 1), (1, 2), (2, 3)])
def test_a_share_is_tried_on_no_more_nodes_than_allowed(retries, tried):
    lost = {name: [NodeLost("gone")] for name in "abcd"}
    fleet = FleetInMemory(*(node(name, hw="x") for name in "abcd"), does=lost)
    (fate,) = sent(fleet, share(hw="x"), retries=retries)
    assert len(fleet.begun) == tried and fate.node is None
    assert f"--retries {retries}" in fate.reason


def test_a_node_that_refuses_says_why_and_another_is_asked():
    fleet = FleetInMemory(node("a", hw="x"), node("b", hw="x"), does={"a": [Refused("it has harness 0.0.9")]})
    (fate,) = sent(fleet, share(hw="x"))
    assert fate.node.name == "b" and fate.losses == ["node a did not measure: it has harness 0.0.9"]


def test_a_damaged_result_is_a_loss_and_never_a_result():
    fleet = FleetInMemory(node("a", hw="x"), node("b", hw="x"))
    keeper = Kept(damaged=("a",))
    (fate,) = sent(fleet, share(hw="x"), keeper=keeper)
    assert fate.losses == ["node a did not send a whole run: is damaged"]
    assert keeper.came == [("tiny-t", "b", b"run")]


def test_a_node_that_ends_without_a_result_is_a_loss():
    fleet = FleetInMemory(node("a", hw="x"), does={"a": [Journal(LAUNCH * 2)]})
    (fate,) = sent(fleet, share(hw="x"))
    assert "node a was lost after 2 of 5 launches (it ended before its work was done)" in fate.reason


def test_when_the_command_is_interrupted_nothing_is_left_running():
    fleet = FleetInMemory(node("a", hw="x"), node("b", hw="x"), does={"a": ["hangs"]})

    class Interrupting(Silent):
        def step(self, text):
            if "[b]" in text:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send_shares(fleet, [share("one", hw="x"), share("two", hw="x")], Kept(), Interrupting(), retries=1)
    assert fleet.stopped.is_set() and fleet.working == []


def test_recipes_of_one_scenario_stay_together_and_targets_without_labels_stay_here():
    both = share(recipes=("plain", "slower"), hw="x").trials
    found = shares_of([SkippedTrial(one, "another machine") for one in (*both, trial())])
    assert [[one.id for one in item.trials] for item in found] == [["tiny/plain-t-b1", "tiny/slower-t-b1"]]
