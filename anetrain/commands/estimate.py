"""`anetrain estimate`: what a config's step would take on a chip's engine, by a cost model."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anetrain.device
from anetrain import config as configs
from anetrain.assembly import find_model
from anetrain.commands.running import REFUSED, find_modules_here, run, sentence
from anetrain.device import ANEError
from anetrain.estimate import CHIPS, Estimate, costs_of, estimate, profile_of
from anetrain.lower import Layout


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    find_modules_here()
    try:
        return run("estimate", _estimate, options)
    except ANEError as error:  # a chip that takes none of the model's programs
        print(f"anetrain estimate: {sentence(error)}", file=sys.stderr)
        return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anetrain estimate",
        description="What a micro-step of a config would take on a chip's engine, by a cost model. An estimate: "
        "nothing is measured, and nothing compiled.",
        epilog="Example: anetrain estimate configs/stories110m.yaml --chip m4",
    )
    add = parser.add_argument
    add("config", type=Path, metavar="CONFIG", help="a YAML file, as for anetrain train")
    add("--chip", required=True, metavar="NAME", help=f"one of {', '.join(CHIPS)}")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, as in anetrain train")
    add("--json", action="store_true", help="print everything as one JSON object")
    return parser


def _estimate(options: argparse.Namespace) -> None:
    config = configs.load(options.config, options.set)
    costs = costs_of(options.chip)
    layout: Layout = "baked" if config.pipeline.kind == "static" else config.pipeline.layout
    with anetrain.device.open("emulator", profile_of(costs)) as device:
        found = estimate(find_model(config).model, costs, device, layout=layout, extras=config.pipeline.extras)
    if options.json:
        print(json.dumps(_plain(found), indent=2))
    else:
        print(text(found, str(options.config)))


def _plain(found: Estimate) -> dict[str, Any]:
    return {
        "estimate": True,
        **dataclasses.asdict(found),
        "forward_s": found.forward_s,
        "backward_s": found.backward_s,
        "conversion_s": found.conversion_s,
    }


def text(found: Estimate, name: str) -> str:
    """Inputs, programs, sums: a screen."""
    costs = found.costs
    inputs = (
        ("a dispatch", f"{costs.floor_us.value:g} us", costs.floor_us.source),
        ("peak, fp16", f"{costs.peak_tflops.value:g} TFLOPS", costs.peak_tflops.source),
        ("bandwidth", f"{costs.bandwidth_gb_per_s.value:g} GB/s", costs.bandwidth_gb_per_s.source),
    )
    low_s, high_s = found.conversion_s
    lines = [
        f"An estimate for the engine of the {costs.name}, not a measurement: {name}, layout {found.layout}",
        "",
        *(f"  {what:12} {value:>12}   {source}" for what, value, source in inputs),
        "",
        f"  {'program':38} {'times':>5} {'GFLOP':>8} {'weights':>9} {'other':>9} {'each':>9} {'in all':>9}  bound by",
        *(
            f"  {program.part + ': ' + program.label:38} {program.dispatches:5} {program.cost.flops / 1e9:8.3f} "
            f"{_mb(program.cost.weight_bytes)} {_mb(program.cost.activation_bytes)} {_ms(program.cost.seconds)} "
            f"{_ms(program.seconds)}  {program.cost.bound}"
            for program in found.programs
        ),
        "",
        f"  estimated on the device, a micro-step: forward {_ms(found.forward_s).strip()}, "
        f"backward {_ms(found.backward_s).strip()}",
        f"  estimated beside it, converting {found.host_bytes / 1e6:.1f} MB between fp32 and fp16: "
        f"{_ms(low_s).strip()} to {_ms(high_s).strip()}",
        "  not estimated: all else that the CPU does (weight gradients, classifier, norms, optimizer)",
    ]
    return "\n".join(lines)


def _mb(count: int) -> str:
    return f"{count / 1e6:6.2f} MB"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:6.2f} ms"


if __name__ == "__main__":
    sys.exit(main())
