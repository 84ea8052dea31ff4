"""The benchmark file that pytest-benchmark is run on: one query of a workload's model. Not collected by this repository's own tests.

What to open comes in ``VERDICT_BENCH``, as JSON: workload, units, cores and the model's file.
"""

import json
import os
import sys
from pathlib import Path

FACTS = json.loads(os.environ["VERDICT_BENCH"])
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, FACTS["cores"])
sys.path.insert(0, str(Path(__file__).parent / "scenarios" / "models"))


def onnx_query():
    import onnxruntime
    from convolutions import images

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(FACTS["cores"])
    session = onnxruntime.InferenceSession(FACTS["model"], options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images()[0][:1]}
    return lambda: session.run(None, feed)


def torch_query():
    import torch
    from encoder import build, sentences

    torch.set_num_threads(len(FACTS["cores"]))
    model, tokens = build(FACTS["units"]), torch.from_numpy(sentences()[0][:1])

    def query():
        with torch.inference_mode():
            return model(tokens)

    return query


def test_query(benchmark):
    benchmark({"onnx": onnx_query, "torch": torch_query}[FACTS["workload"]]())
