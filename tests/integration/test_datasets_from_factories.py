import numpy as np
import pytest

from harness.core.errors import BadInput
from harness.core.scenario import DataSpec
from harness.engine.datasets import make_dataset

torch = pytest.importorskip("torch")


@pytest.fixture
def made(tmp_path):
    """Runs a factory that returns this expression."""

    def make(expression):
        (tmp_path / "sets.py").write_text(f"import numpy as np\nimport torch\n\n\ndef build():\n    return {expression}\n")
        return make_dataset(DataSpec(evaluation="sets.py:build"), "evaluation", 0, tmp_path, tmp_path)

    return make


def test_arrays_tensors_and_lists_will_do(made):
    data = made("{'a': torch.ones(3, 2, requires_grad=True), 'b': [[1, 2], [3, 4], [5, 6]], 'c': np.zeros((3, 1))}, [0, 1, 2]")
    assert {name: (values.dtype.name, values.shape) for name, values in data.inputs.items()} == {
        "a": ("float32", (3, 2)),
        "b": ("int64", (3, 2)),
        "c": ("float64", (3, 1)),
    }
    assert data.targets.tolist() == [0, 1, 2]


def test_an_array_in_another_order_is_laid_out_anew(made):
    data = made("np.arange(6.0).reshape(2, 3).T, None")
    assert data.inputs["x"].flags.c_contiguous
    np.testing.assert_array_equal(data.inputs["x"], [[0, 3], [1, 4], [2, 5]])


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("np.zeros((3, 2))", "returned ndarray: return .inputs, targets."),
        ("np.zeros((0, 2)), None", "returned no samples"),
        ("np.zeros((3, 2)), np.zeros(4)", "equally long everywhere; got {'x': 3, 'targets': 4}"),
        ("np.zeros((1, 2)), 7", "targets: an array or tensor with the sample axis first is needed, got int"),
        ("5.0, None", "input 'x': an array or tensor with the sample axis first is needed, got float"),
        ("[[1, 2], [3]], None", "input 'x': an array or tensor with the sample axis first is needed: .*inhomogeneous"),
        ("torch.zeros(3, 2, dtype=torch.bfloat16), None", "input 'x': .*BFloat16"),
        ("[object()], None", "input 'x': .*got list"),
        ("np.array([[1.0, np.nan]]), None", "input 'x' holds NaN or infinity"),
    ],
)
def test_what_is_no_data_set_is_refused_with_its_place(made, expression, said):
    with pytest.raises(BadInput, match=said):
        made(expression)
