import pytest

from harness.core.errors import BadInput, ExitCode, Problem


def test_bad_input_tells_every_problem_with_file_line_key_and_hint_and_exits_2(tmp_path):
    path = tmp_path / "scenario.yaml"
    error = BadInput(Problem("unknown pass 'x'", path, 14, "recipes.int8.passes[1]", "did you mean 'y'?"), Problem("is empty", key="name"))
    assert str(error) == f"{path}:14 recipes.int8.passes[1]: unknown pass 'x'\n  did you mean 'y'?\nname: is empty"
    assert error.exit_code is ExitCode.BAD_INPUT
    with pytest.raises(ValueError, match="at least one problem"):
        BadInput()
