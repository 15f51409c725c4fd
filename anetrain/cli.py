"""The command `anetrain`: `anetrain train ...` is `python -m anetrain.train ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

COMMANDS = {
    "train": "train a model as a config says",
    "info": "what this machine offers, and which device is chosen",
}


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else "--help"
    if name in ("-h", "--help"):
        print("usage: anetrain COMMAND [-h] ...\n")
        print("\n".join(f"  {command:8} {what}" for command, what in COMMANDS.items()))
        return 0
    if name == "train":
        from anetrain import train

        return train.main(given[1:])
    if name == "info":
        from anetrain import info

        return info.main(given[1:])
    print(f"anetrain: no command {name!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
