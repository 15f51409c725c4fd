"""Writes tests/golden/curve.json: the losses of 200 updates of a small model in PyTorch and transformers, in float64.

    python scripts/make_golden_curve.py
    python scripts/make_golden_curve.py --check    # only compare, to one part in a thousand: processors differ

The task (model, first weights, data, optimizer, learning rates) is tests/curve_task.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests import curve_task as task  # noqa: E402
from tests.transformers_models import their_model, their_name, their_step  # noqa: E402

TARGET = ROOT / "tests" / "golden" / "curve.json"
TOLERANCE = 1e-3


def losses() -> list[float]:
    import torch

    weights = task.first_weights()
    model = their_model(task.SPEC, weights)
    named = dict(model.named_parameters())
    groups = [
        {
            "params": [
                named[their_name(name)] for name, array in weights.items() if task.decays(name, array) == decayed
            ],
            "weight_decay": task.WEIGHT_DECAY if decayed else 0.0,
        }
        for decayed in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=task.PEAK_LR, betas=task.BETAS, eps=task.EPS)
    curve = []
    for update, (ids, targets) in enumerate(task.batches()):
        optimizer.zero_grad()
        _, loss = their_step(model, task.SPEC, ids, targets)
        torch.nn.utils.clip_grad_norm_(model.parameters(), task.CLIP)
        for group in optimizer.param_groups:
            group["lr"] = task.rate(update)
        optimizer.step()
        curve.append(loss)
    return curve


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when the file is stale")
    check, found = parser.parse_args().check, losses()
    if not check:
        TARGET.write_text(json.dumps([round(loss, 5) for loss in found], indent=0) + "\n", encoding="utf-8")
        return 0
    golden = json.loads(TARGET.read_text(encoding="utf-8"))
    if len(golden) == len(found) and np.allclose(found, golden, rtol=TOLERANCE):
        return 0
    print(f"{TARGET.name} is stale: run python {sys.argv[0]}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
