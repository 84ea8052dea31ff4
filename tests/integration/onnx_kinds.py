"""Three kinds of networks as ONNX graphs, with data for each, and how tests look into them."""

from collections import Counter

import numpy as np
import onnx

from harness.core.artifact import Dataset


def data_of(kind):
    generator = np.random.default_rng(5)
    inputs = {
        "residual": lambda: {"x": generator.standard_normal((40, 3, 12, 12), dtype=np.float32)},
        "encoder": lambda: {"ids": generator.integers(0, 50, (40, 8))},
        "recommender": lambda: {
            "user": generator.integers(0, 200, 40),
            "item": generator.integers(0, 300, 40),
            "features": generator.standard_normal((40, 4), dtype=np.float32),
        },
    }[kind]()
    return Dataset(inputs, None)


def exported(shop, kind):
    data = data_of(kind)
    return shop.apply("export_onnx", shop.source("factory", data, target=f"onnx_nets.py:{kind}"), data)


def nodes(artifact):
    return Counter(node.op_type for node in onnx.load(artifact.path).graph.node)


def tensors(artifact):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(artifact.path).graph.initializer}


def difference(shop, before, after, data):
    """The largest difference of the principal output, at three batch sizes, relative to its largest value."""
    worst = 0.0
    with shop.open("onnxruntime", before) as first, shop.open("onnxruntime", after) as second:
        for size in (1, 3, 16):
            batch = data.batch(2, size)
            (expected, *_), (got, *_) = (one.outputs(one.run(one.prepare(batch))) for one in (first, second))
            assert got.shape == expected.shape and len(got) == size
            worst = max(worst, np.abs(got - expected).max() / np.abs(expected).max())
    return worst


def saved(workshop, data, nodes, *, inputs, outputs, initializers=(), opset=18):
    """A graph written by hand, through the source."""
    graph = onnx.helper.make_graph(nodes, "graph", inputs, outputs, [onnx.numpy_helper.from_array(v, n) for n, v in initializers])
    opsets = [onnx.helper.make_opsetid("", opset)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), workshop.root / "by_hand.onnx")
    return workshop.source("onnx", data, path="by_hand.onnx")


def value(name, shape, kind=onnx.TensorProto.FLOAT):
    return onnx.helper.make_tensor_value_info(name, kind, shape)
