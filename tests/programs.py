"""Small MIL programs for device tests."""

from __future__ import annotations

from collections.abc import Sequence

BUILD_INFO = '[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"coremlc-version", "3505.4.1"}})]'


def tensor(channels: int = 1, width: int = 32, dtype: str = "fp16") -> str:
    return f"tensor<{dtype}, [1, {channels}, 1, {width}]>"


def program(parameters: Sequence[str], statements: Sequence[str], results: Sequence[str]) -> str:
    """The older dialect, which every profile takes. A statement is `TYPE name = op(...)`."""
    body = "".join(f'    {s}[name = tensor<string, []>("{s.split(" = ")[0].split()[-1]}")];\n' for s in statements)
    return (
        f"program(1.0)\n{BUILD_INFO}\n{{\n"
        f"  func main<ios16>({', '.join(parameters)}) {{\n{body}  }} -> ({', '.join(results)});\n}}\n"
    )


def subtract(first: str = "x", second: str = "W", result: str = "z", channels: int = 1, width: int = 32) -> str:
    """result = first - second. With the default names the device's order is not the declared one."""
    t = tensor(channels, width)
    return program([f"{t} {first}", f"{t} {second}"], [f"{t} {result} = sub(x = {first}, y = {second})"], [result])


def two_outputs(channels: int = 1, width: int = 32) -> str:
    """q = a + b, k = a - b; declared as (q, k), which the device has as (k, q)."""
    t = tensor(channels, width)
    return program([f"{t} a", f"{t} b"], [f"{t} q = add(x = a, y = b)", f"{t} k = sub(x = a, y = b)"], ["q", "k"])
