import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
from fakes.lessons import accuracy, digits, same, state, taught  # noqa: E402 - needs torch

from harness.passes._training import Settings, factor  # noqa: E402

PROJECT = Path(__file__).parent / "project"


@pytest.fixture(scope="session")
def testing():
    return digits(PROJECT, "testing_set")


@pytest.fixture(scope="session")
def training():
    return digits(PROJECT, "learning_set")


@pytest.fixture(scope="session")
def few():
    return digits(PROJECT, "learning_set", 160)


@pytest.fixture(scope="session")
def net(shop, testing):
    return shop.source("factory", testing, target="digits_nets.py:untrained", args={"width": 8})


@pytest.fixture(scope="session")
def noisy(shop, testing):
    return shop.source("factory", testing, target="digits_nets.py:untrained", args={"width": 8, "dropout": 0.5})


QUICK = {"epochs": 2, "learning_rate": 2e-3, "held_out": 0}


def test_an_untrained_net_learns_to_read_digits(shop, net, testing, training):
    tuned = taught(shop, "finetune", net, testing, training, epochs=4, learning_rate=3e-3)
    assert accuracy(shop, net, testing) < 0.3 < 0.8 < accuracy(shop, tuned, testing)
    notes = tuned.steps[-1].notes
    assert notes[0] == "loss: cross_entropy"
    assert notes[1] == f"{4 * (1167 // 32)} steps of 32 samples (4 epochs of 1167), adamw"
    assert notes[2].startswith("held-out loss 2.") and notes[2].endswith("whose weights are kept (130 samples)")
    assert len(notes) == 3
    assert (tuned.inputs, tuned.outputs) == (net.inputs, net.outputs)


def test_the_module_is_in_eval_mode_and_answers_the_same_in_a_fresh_process(shop, noisy, testing, few):
    tuned = taught(shop, "finetune", noisy, testing, few, **QUICK)
    with shop.open("torch", tuned) as session:
        assert not any(part.training for part in session.module.modules())
        assert all(parameter.grad is None for parameter in session.module.parameters())
    np.testing.assert_array_equal(shop.answers_elsewhere("torch", tuned, testing)[:4], shop.answers("torch", tuned, testing)[0])


def test_one_seed_gives_one_result_and_another_seed_another(shop, noisy, testing, few):
    first, second = (taught(shop, "finetune", noisy, testing, few, **QUICK) for _ in range(2))
    assert same(first, second) and first.sha256 == second.sha256
    assert not same(first, taught(shop, "finetune", noisy, testing, few, seed=1, **QUICK))


def test_training_leaves_torch_as_it_found_it(shop, noisy, testing, few):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    taught(shop, "finetune", noisy, testing, few, **QUICK)
    assert torch.equal(torch.rand(3), expected)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (threads, deterministic)
    assert torch.is_grad_enabled()


def test_what_pruning_set_to_zero_stays_at_zero_unless_it_may_grow_again(shop, net, testing, few):
    pruned = shop.apply("prune_magnitude", net, testing, amount=0.6)
    held = taught(shop, "finetune", pruned, testing, few, **QUICK)
    free = taught(shop, "finetune", pruned, testing, few, keep_zeros=False, **QUICK)
    weights = [name for name, value in state(net).items() if value.ndim > 1]
    for name in weights:
        gone = state(pruned)[name] == 0
        assert torch.equal(state(held)[name] == 0, gone)
        assert not torch.equal(state(held)[name], state(pruned)[name])
    zeros, left = (sum(int((state(artifact)[name] == 0).sum()) for name in weights) for artifact in (pruned, free))
    assert left < 0.5 * zeros  # weights on pixels that are always black get no gradient
    assert held.steps[-1].notes[-1] == f"{zeros:,} zeros in {len(weights)} weights were kept at zero"


def test_two_of_four_stays_two_of_four(shop, net, testing, few):
    pruned = shop.apply("prune_semi_structured", net, testing, layers=("Linear", "Conv2d"))
    tuned = state(taught(shop, "finetune", pruned, testing, few, **QUICK))
    assert {int(count) for count in (tuned["hidden.weight"].reshape(-1, 4) == 0).sum(dim=1)} == {2}


def test_the_best_weights_are_kept_and_training_stops_when_nothing_better_comes(shop, net, testing, few, caplog):
    with caplog.at_level(logging.INFO, logger="harness.passes._training"):
        tuned = taught(shop, "finetune", net, testing, few, epochs=60, learning_rate=1e-2, schedule="constant", patience=4)
    told = [record.message for record in caplog.records]
    losses = [float(message.rpartition(" ")[2]) for message in told]
    best = min(losses)
    assert len(losses) < 60 and losses.index(best) == len(losses) - 5
    note = tuned.steps[-1].notes[2]
    assert f"{best:.4g} after epoch {losses.index(best) + 1}, whose weights are kept" in note
    assert tuned.steps[-1].notes[3] == "stopped early: 4 epochs brought nothing better"
    assert told[0].startswith("epoch 1, step 4 of 240: loss ")
    exact = taught(
        shop, "finetune", net, testing, few, epochs=losses.index(best) + 1, learning_rate=1e-2, schedule="constant", patience=None
    )
    assert same(exact, tuned), "as if it had stopped there"


def test_without_held_out_samples_the_last_weights_are_kept_and_no_sample_is_spared(shop, net, testing, few):
    tuned = taught(shop, "finetune", net, testing, few, **QUICK)
    assert tuned.steps[-1].notes == ("loss: cross_entropy", "10 steps of 32 samples (2 epochs of 160), adamw")


def test_steps_count_in_place_of_epochs(shop, net, testing, few):
    tuned = taught(shop, "finetune", net, testing, few, steps=3, held_out=0, batch_size=100, learning_rate=1e-3)
    assert tuned.steps[-1].notes[1] == "3 steps of 100 samples (3 epochs of 160), adamw"


def test_one_step_of_sgd_is_the_step_that_the_formula_gives(shop, testing, rows):
    module = shop.source("factory", rows, target="digits_nets.py:uneven")
    targets = np.random.default_rng(0).standard_normal((40, 10), dtype=np.float32)
    data = Dataset(rows.inputs, targets)
    options = {"steps": 1, "held_out": 0, "batch_size": 40, "optimizer": "sgd", "weight_decay": 0, "schedule": "constant"}
    tuned = state(taught(shop, "finetune", module, rows, data, learning_rate=1e-5, **options))
    before = state(module)
    x, y = torch.from_numpy(rows.inputs["x"]), torch.from_numpy(targets)
    hidden = torch.relu(x @ before["large.weight"].T + before["large.bias"])
    error = hidden @ before["small.weight"].T + before["small.bias"] - y
    gradient = 2 / error.numel() * error.T @ hidden
    torch.testing.assert_close(tuned["small.weight"], before["small.weight"] - 1e-5 * gradient)


def test_losses_follow_from_the_targets(shop, testing):
    draw = np.random.default_rng(4)
    ids = {name: draw.integers(0, 200, 64) for name in ("user", "item")}
    inputs = {**ids, "features": draw.standard_normal((64, 4), dtype=np.float32)}
    clicks = (inputs["features"].sum(axis=1) > 0).astype(np.int64)
    plain = Dataset(inputs, None)
    module = shop.source("factory", plain, target="digits_nets.py:recommender")
    for targets, loss in ((clicks, "binary_cross_entropy"), (inputs["features"].sum(axis=1), "mse")):
        tuned = taught(shop, "finetune", module, plain, Dataset(inputs, targets), epochs=5, learning_rate=1e-2, batch_size=16)
        assert tuned.steps[-1].notes[0] == f"loss: {loss}"
        assert not same(tuned, module)


def test_a_rate_warms_up_and_follows_its_schedule():
    plan = dict.fromkeys(Settings.__dataclass_fields__)
    rates = {
        name: [round(factor(step, 6, Settings(**(plan | {"schedule": name, "warm_up_steps": 2}))), 3) for step in range(7)]
        for name in ("constant", "linear", "cosine")
    }
    assert rates["constant"] == [0.333, 0.667, 1, 1, 1, 1, 1]
    assert rates["linear"] == [0.333, 0.667, 1, 0.75, 0.5, 0.25, 0]
    assert rates["cosine"] == [0.333, 0.667, 1, 0.854, 0.5, 0.146, 0]


def test_evaluation_samples_that_are_trained_on_are_told(shop, net, testing, few):
    tuned = taught(shop, "finetune", net, Dataset({"x": few.inputs["x"][:7]}, few.targets[:7]), few, **QUICK)
    assert tuned.steps[-1].notes[-1] == "7 of 7 evaluation samples are in the training data: the model may know them by heart"


def test_a_loss_that_is_not_finite_stops_training_at_its_step(shop, net, testing, few):
    with pytest.raises(CannotMeasure, match=r"the loss is (nan|inf) in training step \d+ of 40") as raised:
        taught(shop, "finetune", net, testing, few, steps=40, learning_rate=1e30, optimizer="sgd")
    assert "lower 'learning_rate', or set 'clip_norm'" in str(raised.value)


def test_clipping_keeps_such_a_step_small(shop, net, testing, few):
    options = {"steps": 1, "held_out": 0, "optimizer": "sgd", "weight_decay": 0, "learning_rate": 1.0, "schedule": "constant"}
    before, after = state(net), state(taught(shop, "finetune", net, testing, few, clip_norm=0.01, **options))
    moved = sum(float((after[name] - before[name]).pow(2).sum()) for name in before if "running" not in name and "num" not in name)
    assert moved**0.5 == pytest.approx(0.01, rel=1e-3)


def test_training_that_makes_nothing_better_is_refused(shop, testing, training, few):
    trained = shop.source("factory", testing, target="digits_nets.py:trained", args={"width": 8, "epochs": 2})
    wrong = Dataset(few.inputs, (few.targets + 5) % 10)
    with pytest.raises(CannotMeasure, match="training made nothing better: the held-out loss was"):
        taught(shop, "finetune", trained, testing, Dataset(few.inputs, few.targets), steps=2, learning_rate=5.0)
    assert taught(shop, "finetune", trained, testing, wrong, epochs=2, learning_rate=1e-2).steps[-1].plugin == "finetune"


def test_what_cannot_be_trained_is_refused_with_the_next_step(shop, net, testing, few):
    frozen = shop.source("factory", testing, target="digits_nets.py:frozen")
    with pytest.raises(CannotMeasure, match="every parameter of this module is frozen"):
        taught(shop, "finetune", frozen, testing, few)
    with pytest.raises(CannotMeasure, match=r"data\.training has no targets to train on\n  .*use 'distill'"):
        taught(shop, "finetune", net, testing, Dataset(few.inputs, None))
    with pytest.raises(CannotMeasure, match="the targets are classes 0 to 10, and the model has 10 outputs"):
        taught(shop, "finetune", net, testing, Dataset(few.inputs, np.arange(160) % 11))
    with pytest.raises(CannotMeasure, match=r"outputs float32 \[2, 10\] and targets float32 \[2, 3\]: no loss fits them"):
        taught(shop, "finetune", net, testing, Dataset(few.inputs, np.zeros((160, 3), dtype=np.float32)))
    with pytest.raises(CannotMeasure, match=r"data\.training has 1 sample: training needs at least 2"):
        taught(shop, "finetune", net, testing, Dataset({"x": few.inputs["x"][:1]}, few.targets[:1]))


SCENARIO = """
version: 1
name: pruned-digits
model: {factory: digits_nets.py:trained}
data:
  evaluation: digits_data.py:testing_set
  training: digits_data.py:learning_set
  task: classification
recipes:
  whole: {runtime: torch}
  sparse:
    passes: [prune_magnitude: {amount: 0.8}, finetune: {epochs: 3, learning_rate: 2.0e-3}]
    runtime: torch
  narrow:
    passes: [prune_channels: {ratio: 0.4}, finetune: {epochs: 3, learning_rate: 2.0e-3}]
    runtime: torch
reference: whole
measure: {launches: 2, duration: 0.1 s, warm_up: 0.1 s}
sla:
  accuracy: at least 85 %
  narrow.model_size: at most 60 % of whole
"""


@pytest.mark.slow
def test_a_scenario_prunes_trains_and_keeps_its_promises(workshop):
    (workshop.root / "pruned.yaml").write_text(SCENARIO)
    command = [sys.executable, "-m", "harness.cli", "run", "pruned.yaml"]
    done = subprocess.run(command, cwd=workshop.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (workshop.root / "reports" / "latest" / "report.html").read_text()
    assert "80.0% of" in page and "zeros in" in page and "layers give fewer channels" in page
