"""A scenario that is right, a small project around it, and the table of changes that leave it right or make it wrong.

Reader and schema are held against the same table: what the reader refuses, with its full text, and whether a schema can see it.
"""

from pathlib import Path

from harness import plugins
from harness.core.errors import BadInput
from harness.engine.read_scenario import read_scenario

GOOD = """\
version: 1
name: digits
model:
  factory: net.py:build
data:
  evaluation: net.py:test_set
  calibration: net.py:train_set
  task: classification
recipes:
  fp32: {runtime: torch}
  int8:
    passes:
      - export_onnx
      - quantize_static: {per_channel: true}
    runtime: onnxruntime
reference: fp32
hardware: [cpu]
measure:
  batch_sizes: [1, 8]
  duration: 2 s
sla:
  latency_p99: at most 50 ms
  int8.accuracy: at most 1 point below fp32
gate:
  latency_p50: {tolerance: 3 %}
  accuracy: {tolerance: 0.5 points}
"""
RUINS = "raise SystemExit('this file was run')\n"
"""At the top of every Python file of the project: reading a scenario runs none of them."""
CODE = RUINS + "def build(): ...\ndef test_set(): ...\ndef train_set(): ...\n"
PLUGIN = RUINS + "class Own: ...\nPLUGIN = Own\n"


class Project:
    """A git work tree with ``scenarios/`` in it. Paths are told as the user gives them: relative to the working directory."""

    def __init__(self, root):
        self.root = root
        (root / ".git").mkdir()
        (root.parent / "elsewhere").mkdir(exist_ok=True)
        (root / "scenarios" / "models").mkdir(parents=True)
        self.write("scenarios/net.py", CODE)
        self.write("scenarios/broken.py", "def build(:\n")
        self.write("scenarios/own_pass.py", PLUGIN)
        self.write("scenarios/own_source.py", PLUGIN)
        (root.parent / "out.py").write_text(CODE)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return Path(name)

    def read(self, text, *overrides):
        return read_scenario(self.write("scenarios/s.yaml", text), overrides=overrides)

    def refusal(self, text, *overrides):
        """What the reader says to a file, in full; the project's own folder is told as ROOT."""
        try:
            self.read(text, *overrides)
        except BadInput as error:
            return str(error).replace(str(self.root), "ROOT")
        return "nothing: the file was read"


class Wrong:
    """A change to GOOD and the full text of the refusal. ``unseen``: a schema cannot know."""

    def __init__(self, block):
        lines = block.splitlines()
        self.unseen = "# a schema cannot know" in lines
        self.old = "".join(f"{line[1:]}\n" for line in lines if line.startswith("-"))
        self.new = "".join(f"{line[1:]}\n" for line in lines if line.startswith("+"))
        self.told = "\n".join(line for line in lines if line[0] not in "-+#")
        for family in ("sources", "passes", "runtimes", "loads"):
            self.told = self.told.replace(f"{{{family}}}", str(len(plugins.names(family))))


def changed(old, new, text=GOOD):
    """GOOD with one piece of it written otherwise."""
    assert text.count(old) >= 1, f"{old!r} is not in the scenario"
    return text.replace(old, new, 1)


def name_of(case):
    """A readable name of a case in the list of tests."""
    return " ".join((case.new if isinstance(case, Wrong) else case[1]).split())[:60] or "nothing"


RIGHT = [
    ("duration: 2 s", "load: {offline: }"),
    ("latency_p99: at most 50 ms", "latency_p99: at least 3 times faster than fp32"),
    ("latency_p99: at most 50 ms", "accuracy: at least 0.97"),
    ("latency_p99: at most 50 ms", "accuracy: at least 97 %"),
    ("latency_p99: at most 50 ms", "throughput: at least 3 times faster than fp32"),
    ("latency_p99: at most 50 ms", "latency_p99: at most 50ms"),
    ("latency_p50: {tolerance: 3 %}", "latency_p50: 3 %"),
    ("latency_p50: {tolerance: 3 %}", "latency_p50: off"),
    ("latency_p50: {tolerance: 3 %}", "latency_p50: false"),
    ("latency_p50: {tolerance: 3 %}", "peak_memory: {floor: 3 MB}"),
    ("latency_p50: {tolerance: 3 %}", "latency_p50: {}"),
    ("latency_p50: {tolerance: 3 %}", "output_cosine: {tolerance: 0.01}"),
    ("sla:\n", "sla:\n  throughput: at least 200 /s\n"),
    ("latency_p99: at most 50 ms", "int8.latency_p50: at most 2 ms above fp32"),
    ("latency_p99: at most 50 ms", "int8.model_size: at least 3 times smaller than fp32"),
    ("latency_p99: at most 50 ms", "output_cosine: at least 0.99"),
    ("latency_p99: at most 50 ms", "output_max_difference: at most 1e-3"),
    (
        "hardware: [cpu]",
        "hardware: [{name: box, device: 'cuda:1', cores: 4, threads: 2, price_per_hour: 0.5, currency: EUR, "
        "requires: {cpu_model: EPYC, cores: 8, memory: 16 GiB, gpu: H100}}]",
    ),
    ("hardware: [cpu]", "hardware: [cuda]"),
    ("- quantize_static: {per_channel: true}", "- quantize_static:"),
    ("      - export_onnx\n", "      - export_onnx: {opset: 18}\n"),
    (
        "  duration: 2 s",
        "  duration: 2s\n  warm_up: 500 ms\n  timeout: 2 min\n  build_timeout: .5 min\n  launches: 2\n  load: {offline: {}}",
    ),
    ("    runtime: onnxruntime", "    runtime: {onnxruntime: {providers: [cpu], optimization: basic}}"),
    ("gate:\n", "stored: decide\nseed: 7\ndescription: Digits.\ngate:\n"),
    ("  factory: net.py:build", "  factory: {target: net.py:build}\n  args: {width: 3, names: [a, b]}\n  files: [net.py]"),
    ("  factory: net.py:build", "  torch_hub: resnet50"),
    ("  factory: net.py:build", "  ./own_source.py: {a: 1}"),
    ("- quantize_static: {per_channel: true}", "- ./own_pass.py"),
    ("- quantize_static: {per_channel: true}", "- ./own_pass.py: {level: 2}"),
    ("    runtime: onnxruntime", "    runtime: ./own_pass.py"),
    ("  evaluation: net.py:test_set\n", "  random: {x: 'float32[3, 224, 224]', ids: 'int64[128] below 30522'}\n  samples: 16\n"),
    ("  evaluation: net.py:test_set\n", "  random: {x: 'float32[99999, 99999, 99999]'}\n"),
    ("gate:\n", "gate:\n  accuracy_top5: off\n  peak_memory: {floor: 3 MB}\n  output_cosine: 0.01\n  throughput: {off: true}\n"),
    ("  fp32: {runtime: torch}", "  fp32: {runtime: {./own_pass.py: {}}}"),
]

WRONG = [
    Wrong(block) for block in (Path(__file__).parent / "refusals.txt").read_text(encoding="utf-8").split("\n\n") if "\n-" in f"\n{block}"
]
