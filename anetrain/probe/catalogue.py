"""Which probes there are. One is imported when it is asked for."""

from __future__ import annotations

from anetrain.isolate import resolve
from anetrain.probe.base import Probe

PROBES: dict[str, str] = {
    "dialects": "anetrain.probe.dialects:Dialects",
    "blobs": "anetrain.probe.blobs:Blobs",
    "channels": "anetrain.probe.channels:Channels",
    "inputs": "anetrain.probe.inputs:Inputs",
    "widths": "anetrain.probe.widths:Widths",
    "strides": "anetrain.probe.strides:Strides",
    "one-token": "anetrain.probe.one_token:OneToken",
    "compile-limit": "anetrain.probe.compile_limit:CompileLimit",
    "sdpa-mask": "anetrain.probe.sdpa_mask:SdpaMask",
    "op-forms": "anetrain.probe.op_forms:OpForms",
    "matmul-ceiling": "anetrain.probe.matmul_ceiling:MatmulCeiling",
    "large-results": "anetrain.probe.large_results:LargeResults",
    "subnormals": "anetrain.probe.subnormals:Subnormals",
    "tile": "anetrain.probe.tile:Tile",
    "api": "anetrain.probe.api:Api",
    "weight-reload": "anetrain.probe.weights:WeightReload",
    "weight-patch": "anetrain.probe.weights:WeightPatch",
    "weights-buffer": "anetrain.probe.weights:WeightsBuffer",
    "procedure-index": "anetrain.probe.requests:ProcedureIndex",
    "qos": "anetrain.probe.requests:QualityOfService",
    "performance-stats": "anetrain.probe.requests:PerformanceStats",
    "real-time": "anetrain.probe.ways:RealTime",
    "chaining": "anetrain.probe.ways:Chaining",
    "shared-events": "anetrain.probe.ways:SharedEvents",
}
"""Name -> "module:class", in the order of `anetrain probe all`."""


def probe(name: str) -> Probe:
    if name not in PROBES:
        raise ValueError(f"no probe {name!r}; there are {', '.join(PROBES)}, all")
    made: Probe = resolve(PROBES[name])()
    return made
