import numpy as np
import pytest

from harness.core.errors import BadInput, CannotMeasure
from harness.formats.user_code import call_factory

torch = pytest.importorskip("torch")


def test_the_module_is_saved_in_eval_mode_with_its_inputs_outputs_and_size(shop, mlp):
    assert mlp.format == "torch_module"
    assert [(spec.name, spec.dtype, spec.shape) for spec in mlp.inputs] == [("x", "float32", (None, 32))]
    assert [(spec.name, spec.dtype, spec.shape) for spec in mlp.outputs] == [("output", "float32", (None, 10))]
    assert mlp.steps[0].notes == ("2,762 parameters",)  # 32 x 64 + 64 + 64 x 10 + 10
    with shop.open("torch", mlp) as session:
        assert not session.module.training  # the factory returned it in training mode


def test_saving_moves_nothing_that_only_training_moves(workshop, rows):
    normed = workshop.source("factory", rows, target="nets.py:normed")
    with workshop.open("torch", normed) as session:
        assert session.module[0].num_batches_tracked == 0 and not session.module[0].running_mean.any()


def test_the_size_is_what_a_deployment_ships_and_not_the_notes_beside_it(mlp):
    weights = 2_762 * 4
    assert weights < mlp.size_bytes < weights + 4_096
    assert mlp.size_bytes == (mlp.folder / "state.pt").stat().st_size < sum(path.stat().st_size for path in mlp.folder.rglob("*"))


def test_arguments_of_the_scenario_reach_the_factory(workshop, rows, options_of):
    wide = workshop.source("factory", rows, target="nets.py:mlp", args={"width": 128})
    assert wide.steps[0].notes == ("5,514 parameters",)
    assert options_of(wide.steps[0]) == {"target": "nets.py:mlp"}


def test_weights_are_drawn_from_the_seed(workshop, rows):
    first, again, other = (workshop.source("factory", rows, target="nets.py:mlp", seed=seed) for seed in (3, 3, 4))
    assert first.sha256 == again.sha256 != other.sha256


def test_two_files_of_one_name_do_not_meet(workshop, rows):
    left = workshop.source("factory", rows, target="twins/left/net.py:build")
    right = workshop.source("factory", rows, target="twins/right/net.py:build")
    assert workshop.answers("torch", left, rows)[0].max() == 1.0
    assert workshop.answers("torch", right, rows)[0].min() == 2.0
    both = [call_factory(f"twins/{side}/net.py:build", folder=workshop.root, root=workshop.root, args={}) for side in ("left", "right")]
    assert [float(module(torch.zeros(1, 32)).max()) for module in both] == [1.0, 2.0]  # also in one process


def test_a_saved_module_opens_in_a_fresh_process_when_the_project_is_gone(workshop, rows):
    artifact = workshop.source("factory", rows, target="nets.py:mlp")
    expected = workshop.answers("torch", artifact, rows, size=40)[0]
    for file in workshop.root.rglob("*.py"):
        file.unlink()
    np.testing.assert_allclose(workshop.answers_elsewhere("torch", artifact, rows), expected, atol=1e-6)


def test_a_saved_module_keeps_the_code_that_it_was_saved_with_through_a_pass_when_the_project_has_changed(workshop, rows):
    artifact = workshop.source("factory", rows, target="nets.py:mlp")
    (workshop.root / "blocks.py").write_text("raise ImportError('this file has changed')\n")
    (workshop.root / "parts" / "names.py").write_text("BIAS = False\n")
    quantized = workshop.apply("torch_dynamic_int8", artifact, rows)
    carried = {path.relative_to(quantized.folder / "code").as_posix() for path in (quantized.folder / "code").rglob("*.py")}
    assert carried == {"nets.py", "blocks.py", "late.py", "parts/__init__.py", "parts/head.py", "parts/names.py"}
    expected = workshop.answers("torch", quantized, rows, size=40)[0]
    np.testing.assert_allclose(workshop.answers_elsewhere("torch", quantized, rows, batch_size=40), expected, atol=1e-6)


def test_a_folder_that_happens_to_be_called_code_is_not_taken_for_a_saved_copy(tmp_path, rows, monkeypatch):
    elsewhere = tmp_path / "code"
    elsewhere.mkdir()
    (elsewhere / "neighbour.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(str(elsewhere))
    import neighbour  # an editable install below somebody's ~/code

    from harness.formats import torch_module

    (tmp_path / "artifact").mkdir()
    try:
        artifact = torch_module.save(torch.nn.Linear(32, 10), tmp_path / "artifact", example=rows, root=tmp_path / "project", steps=())
        assert not list((artifact.folder / "code").rglob("neighbour.py")), neighbour.__file__
    finally:
        del __import__("sys").modules["neighbour"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("refused.py:number", "returned int, a torch.nn.Module is needed"),
        ("refused.py:with_a_lambda", "cannot be saved"),
        ("refused.py:of_a_local_class", "define the class at the top level"),
        ("refused.py:with_a_lock", "cannot pickle '_thread.lock'"),
        ("refused.py:that_answers_in_words", "returned str without any tensor"),
        ("refused.py:nothing_of_that_name", "has no function 'nothing_of_that_name'"),
        ("no_such_file.py:build", "'no_such_file.py' does not exist"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_its_reason(workshop, rows, target, said):
    with pytest.raises(BadInput, match=said):
        workshop.source("factory", rows, target=target)


def test_arguments_that_the_factory_does_not_take_are_refused_with_its_signature(workshop, rows):
    with pytest.raises(BadInput, match=r"mlp\(width=64\) in nets\.py .* unexpected keyword argument 'hight'"):
        workshop.source("factory", rows, target="nets.py:mlp", args={"hight": 3})


def test_a_package_that_the_file_imports_and_nobody_has_is_named(workshop, rows):
    with pytest.raises(CannotMeasure, match=r"needs_more\.py imports 'a_package_that_nobody_has'"):
        workshop.source("factory", rows, target="needs_more.py:build")


@pytest.mark.parametrize(
    ("target", "error", "line"),
    [("refused.py:that_raises", ValueError, "the weights are lost"), ("refused.py:that_does_not_fit", RuntimeError, "2x32 and 31x10")],
)
def test_the_users_own_exceptions_pass_through_with_their_traceback(workshop, rows, target, error, line):
    with pytest.raises(error, match=line) as raised:
        workshop.source("factory", rows, target=target)
    assert any(entry.path.name == "refused.py" for entry in raised.traceback)
