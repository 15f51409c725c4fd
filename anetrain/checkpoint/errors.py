"""What goes wrong with checkpoints."""

from __future__ import annotations

from pathlib import Path


class CheckpointError(Exception):
    """A checkpoint could not be written, or is not what it should be. What was saved before is as it was."""

    def __init__(self, path: Path | str, detail: str) -> None:
        self.path, self.detail = Path(path), detail
        super().__init__(f"{path}: {detail}")

    def __reduce__(self) -> tuple[object, ...]:
        return CheckpointError, (self.path, self.detail)
