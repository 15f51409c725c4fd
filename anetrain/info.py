"""What this machine offers: `python -m anetrain.info [--json]`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
from typing import Any

from . import cpu, device


def collect(kind: str = "auto", profile: str | None = None) -> dict[str, Any]:
    """Everything a report about this machine needs, as plain data."""
    real, why = device.real_available()
    with device.open(kind, profile=profile) as chosen:
        return {
            "anetrain": device.version(),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "backends": list(device.backends()),
            "real_ane": {"usable": real, "why": why},
            "device": chosen.facts,
            "counters": dataclasses.asdict(chosen.counters()),
            "profiles": list(device.profiles()),
            "cpu": {"features": cpu.cpu_features(), "blas": cpu.blas_name(), "threads": cpu.threads()},
        }


def rows(info: dict[str, Any]) -> list[tuple[str, str]]:
    facts, counters, processor = info["device"], info["counters"], info["cpu"]
    table = [
        ("anetrain", f"{info['anetrain']} (Python {info['python']}, {info['system']})"),
        ("back ends", ", ".join(info["backends"])),
        ("real ANE", ("usable: " if info["real_ane"]["usable"] else "not usable: ") + info["real_ane"]["why"]),
        ("device", f"{facts['kind']}: {facts['why']}"),
    ]
    for key, label in (("profile", "profile"), ("chip", "chip"), ("sub_type", "aneSubType"), ("executor", "executor")):
        if facts.get(key):
            table.append((label, str(facts[key])))
    table += [
        ("live programs", f"{counters['live_programs']} of {counters['live_budget']}"),
        ("compiles", f"{counters['compiles']} of {counters['compile_budget']} in this process"),
        ("CPU", processor["features"]),
        ("BLAS", f"{processor['blas']}, {processor['threads']} threads"),
        ("profiles", ", ".join(info["profiles"])),
    ]
    return table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="anetrain info",
        description="What this machine offers, and which device `auto` chooses and why.",
        epilog="example: anetrain info --device emulator --profile m1 --json",
    )
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    parser.add_argument("--device", default="auto", help="auto (default), ane, emulator or emulator:PROFILE")
    parser.add_argument("--profile", default=None, help="chip profile of the emulator")
    options = parser.parse_args(arguments)
    try:
        info = collect(options.device, options.profile)
    except (device.ANEError, ValueError) as error:
        print(f"anetrain info: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(info, indent=2))
    else:
        for label, text in rows(info):
            print(f"{label:14} {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
