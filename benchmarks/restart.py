"""What a restart costs, part by part: training on the emulator, with weights baked into programs and a budget of
compiles that allows one update per process, so that every update is followed by a restart.

Times are medians over the restarts, with the shortest and the longest. There is no floor: they are reported.

Example:
    python benchmarks/restart.py                                 # stories15m, five restarts
    python benchmarks/restart.py --preset stories110m --restarts 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from anetrain import events  # noqa: E402
from anetrain.model import PRESETS  # noqa: E402
from anetrain.results.machine import commit  # noqa: E402
from benchmarks._harness import duration, machine  # noqa: E402

CONFIG = """
model: {{preset: {preset}, vocab: {vocab}, seq: {seq}}}
data: {{path: builtin, stories: 100, validation_tokens: 600}}
train: {{updates: {updates}, validate_every: null}}
pipeline: {{kind: static}}
device: {{kind: emulator}}
"""
PARTS = {
    "save": "the checkpoint, written and synced",
    "start": "exec, the interpreter, imports",
    "prepare": "config, data, device",
    "load": "weights of the checkpoint, verified",
    "build": "programs compiled, surfaces, optimizer",
    "rest": "old programs unloaded, the optimizer's state loaded, files closed and opened",
    "whole": "from the end of an update until the next one can begin",
}


def train(folder: Path, config: str, budget: int) -> Path:
    """The run's folder."""
    (folder / "config.yaml").write_text(config)
    out = folder / f"budget-{budget}"
    arguments = [str(folder / "config.yaml"), "--out", str(out), "--set", f"device.compile_budget={budget}"]
    subprocess.run(
        [sys.executable, "-m", "anetrain.train", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    return out


def programs_of(folder: Path, preset: str, seq: int) -> int:
    """That an update compiles."""
    config = CONFIG.format(preset=preset, vocab=vocabulary(preset), seq=seq, updates=1)
    return next(event for _, event in read(train(folder, config, 10_000)) if isinstance(event, events.Compile)).programs


def vocabulary(preset: str) -> int:
    return max(PRESETS[preset].vocab, 2048)  # what the builtin stories need


def read(folder: Path) -> list[tuple[float, events.Event]]:
    return list(events.read_json_lines(folder / "events.jsonl"))


def restarts(found: Sequence[tuple[float, events.Event]]) -> list[dict[str, float]]:
    """Seconds of the parts of each."""
    times: list[dict[str, float]] = []
    updated = saved = 0.0
    for when, event in found:
        if isinstance(event, events.Update):
            updated = when
        elif isinstance(event, events.Checkpoint):
            saved = when
        elif isinstance(event, events.Restarted):
            parts = {
                "save": saved - updated,
                "start": event.start_seconds,
                "prepare": event.prepare_seconds,
                "load": event.load_seconds,
                "build": event.build_seconds,
            }
            whole = when - updated
            times.append({**parts, "rest": whole - sum(parts.values()), "whole": whole})
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="stories15m", choices=[name for name in PRESETS if "qwen" not in name])
    parser.add_argument("--seq", type=int, default=256, help="tokens of a sequence (%(default)s)")
    parser.add_argument("--restarts", type=int, default=5, help="how many (%(default)s)")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "benchmarks" / "restart.json", metavar="FILE")
    options = parser.parse_args()
    place = ROOT / "build"
    place.mkdir(exist_ok=True)  # on a disk, which the system's temporary files may not be
    with tempfile.TemporaryDirectory(dir=place) as folder:
        budget = programs_of(Path(folder), options.preset, options.seq)
        config = CONFIG.format(
            preset=options.preset, vocab=vocabulary(options.preset), seq=options.seq, updates=options.restarts + 1
        )
        out = train(Path(folder), config, budget)
        found = read(out)
        size = next(event.bytes for _, event in found if isinstance(event, events.Checkpoint))
    times = restarts(found)
    print(f"{options.preset}, {budget} programs, {len(times)} restarts, a checkpoint of {size / 1e6:.0f} MB\n")
    print(f"{'':8} {'median':>9} {'shortest':>9} {'longest':>9}")
    for name, meaning in PARTS.items():
        seconds = [restart[name] for restart in times]
        shown = (duration(of(seconds)) for of in (statistics.median, min, max))
        print(f"{name:8} " + " ".join(f"{text:>9}" for text in shown) + f"   {meaning}")
    report = {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "commit": commit(),
        "machine": machine(),
        "model": {"preset": options.preset, "seq": options.seq, "programs": budget, "checkpoint_bytes": size},
        "restarts": times,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
