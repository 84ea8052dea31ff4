import re
from pathlib import Path

TEXT = (Path(__file__).parents[3] / "docs" / "telemetry.md").read_text(encoding="utf-8")


def test_the_example_of_the_fake_runs_as_it_is_written():
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(example, "docs/telemetry.md", "exec"), {})
