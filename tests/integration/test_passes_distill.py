import sys
from pathlib import Path

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure
from harness.passes.distill import Distill

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
from fakes.lessons import accuracy, digits, same, state, taught  # noqa: E402 - needs torch

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
def teacher(shop, testing):
    return shop.source("factory", testing, target="digits_nets.py:trained")


def learned(shop, teacher, testing, training, **options):
    return taught(shop, "distill", teacher, testing, training, **({"student": "digits_nets.py:student"} | options))


def test_a_student_of_a_fraction_of_the_size_reads_nearly_as_well(shop, teacher, testing, training):
    student = learned(shop, teacher, testing, training, epochs=15, learning_rate=1e-2, args={"width": 8})
    assert student.size_bytes < 0.25 * teacher.size_bytes
    assert accuracy(shop, student, testing) > 0.85 and accuracy(shop, teacher, testing) > 0.9
    small = sum(value.numel() for value in state(student).values())
    assert state(student)["first.weight"].shape == (8, 1, 3, 3)
    notes = student.steps[-1].notes
    assert notes[0].startswith("teacher ") and f", student {small:,} (" in notes[0]
    assert notes[1] == "loss: kl to the teacher at temperature 4, 0.5 of it on the labels"
    assert [step.plugin for step in student.steps] == ["factory", "distill"]


def test_the_student_opens_in_a_fresh_process_with_the_code_that_it_needs(shop, teacher, testing, few, monkeypatch):
    monkeypatch.delitem(sys.modules, "late", raising=False)  # another test's copy of the project: a build has a process of its own
    student = learned(shop, teacher, testing, few, epochs=2)
    np.testing.assert_array_equal(shop.answers_elsewhere("torch", student, testing)[:4], shop.answers("torch", student, testing)[0])


def test_it_learns_the_teachers_answers_and_not_the_labels(shop, teacher, testing, training):
    """The labels are all wrong, and have no weight."""
    wrong = Dataset(training.inputs, (training.targets + 1) % 10)
    student = learned(shop, teacher, testing, wrong, epochs=8, learning_rate=1e-2, hard_weight=0)
    (taught_by,), (answers,) = (shop.answers("torch", artifact, testing, size=testing.count) for artifact in (teacher, student))
    assert (taught_by.argmax(axis=1) == answers.argmax(axis=1)).mean() > 0.8
    assert student.steps[-1].notes[1].endswith("without labels")


def test_without_labels_it_learns_from_the_teacher_alone(shop, teacher, testing, training):
    unlabelled = Dataset(training.inputs, None)
    soft = learned(shop, teacher, testing, unlabelled, epochs=8, learning_rate=1e-2, loss="kl")
    assert accuracy(shop, soft, testing) > 0.75
    near = learned(shop, teacher, testing, unlabelled, epochs=8, learning_rate=1e-2)
    assert near.steps[-1].notes[1] == "loss: mse to the teacher"
    (wanted,), (got,) = (shop.answers("torch", artifact, testing, size=testing.count) for artifact in (teacher, near))
    assert ((got - wanted) ** 2).mean() < 0.5 * wanted.var()


def test_embeddings_are_learned_by_their_squared_distance(shop):
    draw = np.random.default_rng(1)
    data = Dataset({"input_ids": draw.integers(0, 50, (64, 8)), "attention_mask": np.ones((64, 8), dtype=np.int64)}, None)
    encoder = shop.source("factory", data, target="digits_nets.py:encoder", args={"layers": 2})
    student = learned(
        shop, encoder, data, data, student="digits_nets.py:encoder", args={"layers": 1}, epochs=30, learning_rate=3e-3, held_out=0
    )
    fresh = shop.source("factory", data, target="digits_nets.py:encoder", args={"layers": 1})
    wanted, before, after = (shop.answers("torch", artifact, data, size=64)[0] for artifact in (encoder, fresh, student))
    assert ((after - wanted) ** 2).mean() < 0.5 * ((before - wanted) ** 2).mean()
    assert student.outputs == encoder.outputs


def test_the_loss_is_the_formula_of_the_paper():
    given, answers = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.1, 0.0]]), torch.tensor([[1.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
    labels = torch.tensor([0, 2])
    objective, _ = Distill(student="a.py:b", temperature=2.0, hard_weight=0.3)._objective(answers, labels)
    p, q = (answers / 2).softmax(dim=1), (given / 2).softmax(dim=1)
    soft = (p * (p / q).log()).sum(dim=1).mean() * 4
    hard = -given.softmax(dim=1).log()[[0, 1], labels].mean()
    torch.testing.assert_close(objective(given, torch.tensor([0, 1])), 0.3 * hard + 0.7 * soft)
    torch.testing.assert_close(
        objective(given[1:], torch.tensor([1])), 0.3 * -given.softmax(dim=1).log()[1, 2] + 0.7 * 4 * (p * (p / q).log())[1].sum()
    )


def test_one_seed_gives_one_student_and_another_seed_another(shop, teacher, testing, few):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = learned(shop, teacher, testing, few, epochs=2)
    assert torch.equal(torch.rand(3), expected), "the generator goes on where it was"
    assert same(first, learned(shop, teacher, testing, few, epochs=2))
    assert not same(first, learned(shop, teacher, testing, few, epochs=2, seed=1))


def test_it_says_which_code_of_the_project_it_depends_on():
    found = Distill(student="models/small.py:build").depends_on(Path("/project/scenarios"))
    assert found.code == (Path("/project/scenarios/models/small.py"),) and not found.files


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ("digits_nets.py", "'digits_nets.py' is not a factory\n  write 'file.py:function'"),
        ("../outside.py:build", "'../outside.py' lies outside the project"),
        ("nowhere.py:build", "'nowhere.py' does not exist"),
        ("digits_nets.py:nobody", "has no function 'nobody'"),
        ("digits_nets.py:a_number", "returned int, a torch.nn.Module is needed"),
        ("digits_nets.py:of_five_classes", "the student answers [5] to a sample, and the teacher [10]"),
    ],
)
def test_a_student_that_does_not_fit_is_refused(shop, teacher, testing, few, student, said):
    with pytest.raises(BadInput) as raised:
        learned(shop, teacher, testing, few, student=student)
    assert said in str(raised.value)


def test_arguments_that_the_student_does_not_take_are_refused(shop, teacher, testing, few):
    with pytest.raises(BadInput, match=r"student\(width=4\) in digits_nets\.py cannot be called"):
        learned(shop, teacher, testing, few, args={"depth": 3})


def test_a_quantized_teacher_and_a_loss_that_does_not_fit_are_refused(shop, teacher, testing, few):
    with pytest.raises(CannotMeasure, match="layer 'hidden' is quantized"):
        learned(shop, shop.apply("torch_dynamic_int8", teacher, testing), testing, few)
    with pytest.raises(CannotMeasure, match="'loss: kl' compares classes"):
        Distill(student="a.py:b", loss="kl")._objective(torch.zeros(4, 1), None)
