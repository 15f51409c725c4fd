"""Checkpoints: whole or not there, whatever is killed; validated to the last byte when they are loaded.

    with Store("runs/stories", keep=3) as store:
        saving = store.save_in_background(State(step, spec, weights, arrays, values))
        ...                  # micro-steps: they change no weights
        saving.release()     # before the update, which does
        ...
        saving.wait()        # complete and durable; raises what went wrong

    checkpoint = load(find("runs/stories"))              # or find(..., "best")
    checkpoint.weights.read_into(weights)

docs/checkpoints.md has the format, and what holds when.
"""

from anetrain.checkpoint.errors import CheckpointError
from anetrain.checkpoint.loading import Checkpoint, Tensors, load
from anetrain.checkpoint.store import State, Store, checkpoints, find
from anetrain.checkpoint.writing import Saved, Saving

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Saved",
    "Saving",
    "State",
    "Store",
    "Tensors",
    "checkpoints",
    "find",
    "load",
]
