import dataclasses

import numpy as np
import pytest
from fakes import cases, runs
from test_record import paired

from harness.core.measurement import Repeat
from harness.core.repeat_wording import asked_twice, flips_told
from harness.engine.ask_twice import MOST_SAMPLES, ask_twice
from harness.engine.datasets import read_predictions, write_predictions

LONG_NS = 10**12


def answers(classes, scale=1.0):
    return np.eye(4, dtype=np.float32)[np.asarray(classes)] * np.float32(scale)


def asked(first, again, *, batch_size=4, count=None, limit_ns=LONG_NS, clock=None):
    """Batches of a first pass, and of what the second one gives, each a list of outputs."""
    told = [batch if isinstance(batch, list) else [batch] for batch in again]
    return ask_twice(
        lambda start: told[start // batch_size],
        [batch if isinstance(batch, list) else [batch] for batch in first],
        batch_size,
        len(first) * batch_size if count is None else count,
        limit_ns,
        clock or runs.FakeClock(),
    )


def test_outputs_that_are_the_same_to_the_bit_are_deterministic():
    batches = [answers([0, 1, 2, 3]), answers([3, 2, 1, 0])]
    assert asked(batches, [batch.copy() for batch in batches]) == Repeat(8, 0, 0, 0.0)


def test_samples_whose_output_or_answer_differs_are_counted_apart():
    first, again = answers([0, 1, 2, 3]), answers([0, 1, 2, 0])
    again[0, 0] += np.float32(2**-20)
    assert asked([first], [again]) == Repeat(4, 2, 1, 1.0)


def test_the_last_bit_and_the_sign_of_zero_are_differences():
    first, again = answers([0, 1, 2, 3]), answers([0, 1, 2, 3])
    again[1, 1], again[2, 0] = np.nextafter(np.float32(1), np.float32(2)), np.float32(-0.0)
    assert asked([first], [again]) == Repeat(4, 2, 0, 2**-23)


def test_every_output_is_compared_and_the_answer_is_that_of_the_first():
    first = [answers([0, 1, 2, 3]), np.arange(4), np.array(["a", "b", "c", "d"])]
    again = [answers([0, 1, 2, 3]), np.array([0, 1, 2, 8]), np.array(["a", "x", "c", "d"])]
    assert asked([first], [again]) == Repeat(4, 2, 0, 5.0)


def test_what_fills_up_the_last_batch_is_not_compared():
    again = answers([0, 1, 3, 3])
    assert asked([answers([0, 1, 2, 3])], [again], count=2) == Repeat(2, 0, 0, 0.0)


def test_so_many_samples_are_asked_again_and_no_more():
    batches = [answers(np.zeros(100, int))] * 5
    changed = [batches[0]] * 2 + [np.concatenate([batches[0][:56], answers(np.ones(44, int))])] + [answers(np.ones(100, int))] * 2
    assert asked(batches, changed, batch_size=100) == Repeat(MOST_SAMPLES, 0, 0, 0.0)


@pytest.mark.parametrize(("limit_ns", "samples"), [(0, 4), (25, 12), (LONG_NS, 40)])
def test_no_batch_is_begun_after_the_time_that_the_first_pass_took(limit_ns, samples):
    clock, batches = runs.FakeClock(), [answers([0, 1, 2, 3])] * 10

    def ask(start):
        clock.spend(10)
        return [batches[0]]

    assert ask_twice(ask, [[batch] for batch in batches], 4, 40, limit_ns, clock).samples == samples


@pytest.mark.parametrize("task", ["classification", "embedding"])
def test_what_came_of_asking_twice_is_kept_beside_the_predictions(tmp_path, task):
    repeat = Repeat(256, 12, 3, 0.25)
    write_predictions(tmp_path / "predictions.npz", [answers([0, 1])], None, repeat)
    found = read_predictions(tmp_path / "predictions.npz", task)
    assert found.repeat == (repeat if task == "classification" else dataclasses.replace(repeat, other_answers=None))
    assert len(found.outputs) == 1


def test_predictions_of_an_older_layout_are_read_and_not_checked(tmp_path):
    np.savez(tmp_path / "predictions.npz", **{"output.0": answers([0, 1]), "targets": np.array([0, 1])})
    found = read_predictions(tmp_path / "predictions.npz", "classification")
    assert found.repeat is None and found.targets.tolist() == [0, 1]
    assert asked_twice(found.repeat) == "not checked: it was not asked twice"


SAME, OTHER_BITS, OTHER_ANSWERS = Repeat(256, 0, 0, 0.0), Repeat(256, 9, 0, 3.1e-5), Repeat(256, 9, 3, 1.0)


def record(now=None, before=None, *, flipped=True):
    """Ten samples of which one is answered otherwise than by the baseline."""
    changed = cases.answers([*range(9), 0 if flipped else 9], targets=range(10))
    kept = cases.answers(range(10), targets=range(10))
    return cases.record(
        paired(predictions=dataclasses.replace(changed, repeat=now), base_predictions=dataclasses.replace(kept, repeat=before))
    )


def test_where_both_arms_are_deterministic_flips_are_exact():
    found = record(SAME, Repeat(200, 0, 0, 0.0))
    assert flips_told(found) == (
        "asked twice, every output is the same to the bit: flips are exact (256 samples of the candidate, 200 of the baseline)"
    )
    assert found.notes == () and found.repeat == SAME


def test_other_answers_to_the_same_question_are_a_note_of_the_trial_and_mark_its_flips():
    note = "not deterministic: asked twice, 3 of 256 samples give another answer: flips below are not all the change's doing"
    found = record(OTHER_ANSWERS, SAME)
    assert found.notes == (note,) and flips_told(found) == note


def test_a_baseline_that_is_not_deterministic_is_told_as_such():
    found = record(SAME, OTHER_ANSWERS)
    assert found.notes == (
        "the baseline is not deterministic: asked twice, 3 of 256 samples give another answer: flips below are not all the change's doing",
    )


def test_other_bits_with_the_same_answers_leave_a_doubt():
    assert record(OTHER_BITS, SAME).notes == (
        "not deterministic: asked twice, 9 of 256 samples give other outputs (by at most 3.1e-05), none another answer: "
        "flips below may not all be the change's doing",
    )


def test_without_flips_there_is_nothing_to_doubt():
    assert record(OTHER_ANSWERS, SAME, flipped=False).notes == ("not deterministic: asked twice, 3 of 256 samples give another answer",)


def test_where_the_task_has_no_answers_only_the_outputs_are_told():
    assert asked_twice(Repeat(1, 1, None, 0.5)) == "not deterministic: asked twice, 1 of 1 sample give other outputs (by at most 0.5)"


def test_an_arm_that_was_not_asked_twice_makes_no_flip_exact():
    assert flips_told(record(SAME)) == (
        "asked twice, every output is the same to the bit in the candidate (256 samples); the baseline was not asked twice"
    )
    assert flips_told(record()) == "it was not checked whether the same question gets the same answer twice"
    assert record().notes == ()
