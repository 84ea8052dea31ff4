"""Deployment, Service, HorizontalPodAutoscaler and ServiceMonitor of a served recipe, as one YAML file."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.engine.kubernetes.sizing import Sizing

PORT = 8000
PRE_STOP_S = 5
"""How long a replica that is to end goes on answering, so that it leaves the Service's endpoints before it drains."""
DRAIN_S = 15
STARTUP_TRIES = 60
QUEUE_METRIC = "harness_queue_seconds_mean"
_UNFIT = re.compile(r"[^a-z0-9-]+")


@dataclass(frozen=True, slots=True)
class Deployed:
    """What is deployed: the scenario's path in the image and its recipe, the model's name, the image, and the run that sized it."""

    scenario_path: str
    recipe: str
    model: str
    image: str
    run: str
    namespace: str | None = None

    @property
    def name(self) -> str:
        """A DNS label for all four objects."""
        return _UNFIT.sub("-", f"{self.model}-{self.recipe}".lower()).strip("-")[:52].rstrip("-")


def manifests(deployed: Deployed, sizing: Sizing) -> list[dict[str, object]]:
    """The four objects, in the order in which they are applied."""
    labels = {"app.kubernetes.io/name": deployed.name, "app.kubernetes.io/managed-by": "harness"}
    selector = {"app.kubernetes.io/name": deployed.name}

    def meta(**more: object) -> dict[str, object]:
        place = {} if deployed.namespace is None else {"namespace": deployed.namespace}
        return {"name": deployed.name, **place, "labels": labels, **more}

    notes = {"harness/run": deployed.run, "harness/capacity-per-replica": f"{sizing.capacity_per_s:.0f}"}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta(annotations=notes),
            "spec": {
                "replicas": sizing.least,
                "selector": {"matchLabels": selector},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {"metadata": {"labels": labels}, "spec": _pod(deployed, sizing)},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta(),
            "spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": meta(),
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployed.name},
                "minReplicas": sizing.least,
                "maxReplicas": sizing.most,
                "metrics": [
                    _pods_metric(QUEUE_METRIC, f"{round(sizing.queue_s * 1e6)}u"),
                    {
                        "type": "Resource",
                        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": sizing.cpu_percent}},
                    },
                ],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
            },
        },
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "ServiceMonitor",
            "metadata": meta(),
            "spec": {"selector": {"matchLabels": selector}, "endpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}]},
        },
    ]


def as_yaml(objects: list[dict[str, object]], sizing: Sizing) -> str:
    """One file; its head says how each number came about."""
    from ruamel.yaml import YAML

    writer = YAML()
    writer.default_flow_style = False
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.width = 120
    writer.representer.ignore_aliases = lambda data: True
    parts = ["".join(f"# {line}\n" for line in ("Written by 'harness export kubernetes'.", *sizing.why, *_ABOUT_QUEUE))]
    for one in objects:
        text = io.StringIO()
        writer.dump(one, text)
        parts.append(text.getvalue())
    return "---\n".join(parts)


_ABOUT_QUEUE = (
    f"The autoscaler reads {QUEUE_METRIC} from an adapter for custom metrics, such as prometheus-adapter, with the rule",
    "  sum by (namespace, pod) (rate(harness_queue_seconds_sum[1m])) / sum by (namespace, pod) (rate(harness_queue_seconds_count[1m]))",
    "Without such an adapter it scales on CPU alone, and says so in its status.",
)


def _pod(deployed: Deployed, sizing: Sizing) -> Mapping[str, object]:
    memory = f"{sizing.memory_bytes // 2**20}Mi"
    live = {"httpGet": {"path": "/v2/health/live", "port": "http"}}
    ready = {"httpGet": {"path": f"/v2/models/{deployed.model}/ready", "port": "http"}}
    return {
        "terminationGracePeriodSeconds": PRE_STOP_S + DRAIN_S + 10,
        "containers": [
            {
                "name": "server",
                "image": deployed.image,
                "args": [
                    "harness",
                    "serve",
                    deployed.scenario_path,
                    "--recipe",
                    deployed.recipe,
                    "--host",
                    "0.0.0.0",
                    "--port",
                    str(PORT),
                ],
                "ports": [{"name": "http", "containerPort": PORT}],
                "resources": {"requests": {"cpu": str(sizing.cores), "memory": memory}, "limits": {"memory": memory}},
                "startupProbe": {**ready, "periodSeconds": 10, "failureThreshold": STARTUP_TRIES},
                "readinessProbe": {**ready, "periodSeconds": 2},
                "livenessProbe": {**live, "periodSeconds": 10, "failureThreshold": 3},
                "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(PRE_STOP_S)]}}},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }


def _pods_metric(name: str, value: str) -> dict[str, object]:
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": value}}}
