"""Execution providers of ONNX Runtime: their names and options, and whether they do what they were asked to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.core.errors import CannotMeasure

if TYPE_CHECKING:
    import onnxruntime

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
SHORT_NAMES = {
    "cpu": CPU,
    "cuda": CUDA,
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
COMPILERS = frozenset({"TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider", "OpenVINOExecutionProvider"})
"""Providers that compile whole subgraphs, some for minutes: such a session is not opened a second time to be traced."""
RECORD = "session.record_ep_graph_assignment_info"

Configured = Sequence[tuple[str, Mapping[str, str]]]
"""Providers in order of preference, each with its options as the library takes them."""


def as_text(options: Mapping[str, bool | int | float | str]) -> dict[str, str]:
    """The library takes text; its truth is 1."""
    return {name: str(int(value) if isinstance(value, bool) else value) for name, value in options.items()}


def check_offered(wanted: Sequence[str]) -> None:
    """Raises CannotMeasure, naming what this build offers, for a provider that it does not have."""
    import onnxruntime

    offered = onnxruntime.get_available_providers()
    if missing := [name for name in wanted if name not in offered]:
        hint = f"this build of onnxruntime {onnxruntime.__version__} offers {', '.join(offered)}"
        raise CannotMeasure(f"execution provider {', '.join(missing)} is not available", hint=hint)


def check_in_use(session: onnxruntime.InferenceSession, configured: Configured) -> None:
    """Raises CannotMeasure where a provider was dropped, was given no node, or has not taken an option: the library says nothing."""
    in_use = session.get_providers()
    if silent := [name for name, _ in configured if name not in in_use]:
        hint = f"it runs on {', '.join(in_use)} instead; see the worker's log for the library's own message"
        raise CannotMeasure(f"execution provider {', '.join(silent)} was asked for and is not in use", hint=hint)
    nodes = assigned(session)
    if idle := [name for name, _ in configured if nodes and name != CPU and not nodes[name]]:
        hint = f"all {nodes.total()} nodes run on {', '.join(nodes)}; take {', '.join(idle)} out of 'providers'"
        raise CannotMeasure(f"execution provider {', '.join(idle)} was asked for and is given no node of this graph", hint=hint)
    reported = session.get_provider_options()
    for name, options in configured:
        if unknown := [key for key in options if key not in reported.get(name, {})]:
            known = ", ".join(sorted(reported.get(name, {}))) or "none"
            raise CannotMeasure(f"{name} has not taken the option {', '.join(unknown)}", hint=f"the options that it reports are {known}")


def assigned(session: onnxruntime.InferenceSession) -> Counter[str]:
    """Nodes of the graph, before it was optimized, by the provider that they were given to.

    Empty for the CPU alone, where it is not recorded, and for a library that is too old to record it.
    """
    counts: Counter[str] = Counter()
    if session.get_providers() != [CPU] and hasattr(session, "get_provider_graph_assignment_info"):
        for part in session.get_provider_graph_assignment_info():
            counts[part.ep_name] += len(part.get_nodes())
    return counts


def shares(session: onnxruntime.InferenceSession) -> tuple[str, ...]:
    """Each provider in words, with its share of the nodes where that is known."""
    nodes = assigned(session)
    in_use = session.get_providers()
    return tuple(f"{name} is given {nodes[name]} of {nodes.total()} nodes" for name in in_use) if nodes else tuple(in_use)
