"""The smallest whole use of the device: one 1x1 convolution, compiled, run, and checked against numpy.

python examples/hello_ane.py [--device auto|ane|emulator|emulator:PROFILE]
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

import anetrain.device
from anetrain.mil import Graph


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto (default), ane, emulator or emulator:PROFILE")
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((128, 64, 1, 1)) / 8).astype(np.float16)  # [out channels, in channels, 1, 1]
    x = rng.standard_normal((1, 64, 1, 256)).astype(np.float16)  # [1, channels, 1, tokens]

    graph = Graph()
    a_x = graph.input("a_x", x.shape)
    graph.output("y", graph.conv(x=a_x, weight=graph.constant(weight, name="w")))

    with anetrain.device.open(arguments.device) as device:
        print(f"device: {device.facts['kind']} ({device.facts['why']})")
        program = device.compile(graph.program(), label="hello")
        y = program.run({"a_x": x})["y"]

    expected = weight[:, :, 0, 0].astype(np.float64) @ x[0, :, 0].astype(np.float64)  # [out channels, tokens]
    error = np.abs(y[0, :, 0] - expected).max()
    limit = np.abs(expected).max() * 2**-10  # one rounding to fp16
    print(f"conv 64 -> 128 channels over {x.shape[-1]} tokens: largest error {error:.1e}, allowed {limit:.1e}")
    if not error <= limit:
        print("the device's result is wrong")
        return 1
    print("correct")
    return 0


if __name__ == "__main__":
    sys.exit(main())
