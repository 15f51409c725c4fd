"""Graph -> MIL text and blobs, in either dialect (ANE_FACTS 3.1, 3.2).

The same graph always gives the same bytes, so that caches keyed by the text hit. Only what reaches an output is
written. Floating point is written in hexadecimal, which is exact. Parameters are named constants, each value written
once: the form that every known system accepts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from anetrain.mil.blobs import write_blobs
from anetrain.mil.graph import BuildError, Graph, Node, Value
from anetrain.mil.ops import Arg
from anetrain.mil.types import Array, TensorType, dtype

MODEL_PATH = "@model_path/"
SINGLE_BLOB = "weights/weights.bin"
SPELLINGS = ("call", "attributes")


@dataclass(frozen=True)
class Dialect:
    """`B` is the new one (M3 and newer), `A` the old one, which M1 and M2 want."""

    name: str
    version: str
    opset: str
    build_info: str
    typed_scalars: bool  # fp16(0x1p+0) rather than tensor<fp16, []>(0x1p+0)


DIALECTS = {
    "A": Dialect(
        "A",
        "1.0",
        "ios16",
        '[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"coremlc-version", "3505.4.1"}})]',
        typed_scalars=False,
    ),
    "B": Dialect(
        "B",
        "1.3",
        "ios18",
        '[buildInfo = dict<string, string>({{"coremlc-component-MIL", "3510.2.1"}, {"coremlc-version", "3505.4.1"}, '
        '{"coremltools-component-milinternal", ""}, {"coremltools-version", "9.0"}})]',
        typed_scalars=True,
    ),
}


@dataclass(frozen=True)
class Program:
    """What a device compiles: the text, the blob files by their MIL path, and the ports in declared order."""

    text: str
    blobs: dict[str, bytes]
    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]
    dialect: str = "B"


def hex_float(value: float, kind: str) -> str:
    """Exact, the shortest hexadecimal form: 0x1p-1, -0x1.ffcp+15."""
    rounded = float(dtype(kind).numpy.type(value))
    if not np.isfinite(rounded):
        raise BuildError(f"{value} is not finite in {kind}, and MIL text has no such literal")
    mantissa, exponent = rounded.hex().split("p")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}p{exponent}"


def write(graph: Graph, dialect: str = "B", *, single_blob: bool = False, spelling: str | None = None) -> Program:
    """`single_blob` puts all blob constants into one file; `spelling` overrides how constexpr_* ops are written, "call"
    or "attributes"."""
    if dialect not in DIALECTS:
        raise BuildError(f"unknown dialect {dialect!r}, expected 'A' or 'B'")
    if spelling is not None and spelling not in SPELLINGS:
        raise BuildError(f"unknown spelling {spelling!r}, expected 'call' or 'attributes'")
    if not graph.outputs:
        raise BuildError("the graph has no output")
    return _Writer(graph, DIALECTS[dialect], single_blob, spelling).program()


class _Writer:
    def __init__(self, graph: Graph, dialect: Dialect, single_blob: bool, spelling: str | None) -> None:
        self.graph = graph
        self.dialect = dialect
        self.spelling = spelling
        self.lines: list[str] = []
        self.constant_names: dict[Any, str] = {}  # literal -> the constant that holds it
        self.declared: set[str] = set()
        self.constant_count = 0
        self.nodes = live_nodes(graph)
        self.files, self.places = _blob_files(_blob_values(graph, self.nodes), single_blob)

    def program(self) -> Program:
        for node in self.nodes:
            self.statement(node)
        for value in self.graph.outputs:
            self.reference(value)  # an output that is a constant is wrong, and the device says so
        ports = ", ".join(f"{self.type(value.type)} {value.name}" for value in self.graph.inputs)
        text = "\n".join(
            [
                f"program({self.dialect.version})",
                self.dialect.build_info,
                "{",
                f"    func main<{self.dialect.opset}>({ports}) {{",
                *(f"        {line}" for line in self.lines),
                f"    }} -> ({', '.join(value.name for value in self.graph.outputs)});",
                "}",
                "",
            ]
        )
        return Program(
            text,
            self.files,
            {value.name: value.type for value in self.graph.inputs},
            {value.name: value.type for value in self.graph.outputs},
            self.dialect.name,
        )

    # ------------------------------------------------------------ statements

    def statement(self, node: Node) -> None:
        opset = self.dialect.opset
        if node.op.opset > opset:
            raise BuildError(f"[{node.op.name}] exists from {node.op.opset} on, dialect {self.dialect.name} is {opset}")
        label = node.outputs[0].name
        arguments = [(arg, text) for arg in node.op.args if (text := self.argument(node, arg)) is not None]
        spelled = (self.spelling or node.op.spelling) if node.op.folded else "call"
        results = ", ".join(f"{self.type(value.type)} {value.name}" for value in node.outputs)
        written = ", ".join(f"{arg.name} = {text}" for arg, text in arguments)
        name = f"name = {self.string(label)}"
        if spelled == "attributes":
            self.lines.append(f"{results} = {node.op.name}()[{written}, {name}];")
        else:
            self.lines.append(f"{results} = {node.op.name}({written})[{name}];")

    def argument(self, node: Node, arg: Arg) -> str | None:
        inline = node.op.folded and (self.spelling or node.op.spelling) == "attributes"
        if not arg.is_tensor:
            given = node.parameters[arg.name]
            if given is None:
                return None
            array, kind = _parameter_array(given, arg.kind, node)
            return self.literal(array, kind) if inline else self.parameter(array, kind)
        value = node.tensors[arg.name]
        if value is None:
            return None
        if isinstance(value, tuple):
            return f"({', '.join(self.reference(item) for item in value)})"
        return self.constant_literal(value) if inline and value.data is not None else self.reference(value)

    def reference(self, value: Value) -> str:
        """The name to use for a value; a constant is declared at its first use."""
        if value.data is None:
            return value.name
        if value.inline and not value.named:
            return self.parameter(value.data, value.dtype)
        if value.name not in self.declared:
            self.declared.add(value.name)
            self.declare(value.name, value.type, self.constant_literal(value))
        return value.name

    def parameter(self, array: Array | str, kind: str) -> str:
        literal = self.literal(array, kind)
        if literal not in self.constant_names:
            name = f"c_{self.constant_count}"
            while self.graph.name_taken(name):
                self.constant_count += 1
                name = f"c_{self.constant_count}"
            self.constant_count += 1
            self.constant_names[literal] = name
            shape = () if isinstance(array, str) else array.shape
            self.declare(name, TensorType(kind, shape), literal)
        return self.constant_names[literal]

    def declare(self, name: str, type_: TensorType, literal: str) -> None:
        self.lines.append(f"{self.type(type_)} {name} = const()[name = {self.string(name)}, val = {literal}];")

    # ------------------------------------------------------------ literals

    def type(self, type_: TensorType) -> str:
        if type_.rank == 0 and self.dialect.typed_scalars:
            return type_.dtype
        return f"tensor<{type_.dtype}, [{', '.join(map(str, type_.shape))}]>"

    def string(self, text: str) -> str:
        return f'{self.type(TensorType("string"))}("{text}")'

    def constant_literal(self, value: Value) -> str:
        assert value.data is not None
        if value.inline:
            return self.literal(value.data, value.dtype)
        path, offset = self.places[value.name]
        position = f"{self.type(TensorType('uint64'))}({offset})"
        return f"{self.type(value.type)}(BLOBFILE(path = {self.string(path)}, offset = {position}))"

    def literal(self, array: Array | str, kind: str) -> str:
        if isinstance(array, str):
            return self.string(array)
        return f"{self.type(TensorType(kind, array.shape))}({_elements(array, kind)})"


def _elements(array: Array, kind: str) -> str:
    if array.ndim:
        return f"[{', '.join(_elements(row, kind) for row in array)}]"
    if kind == "bool":
        return "true" if array else "false"
    return hex_float(float(array), kind) if dtype(kind).is_float else str(int(array))


def _parameter_array(given: Any, kind: str, node: Node) -> tuple[Array | str, str]:
    """A parameter as the array and element type that the text has."""
    if isinstance(given, str):
        return given, "string"
    element = kind.removesuffix("[]")
    if element == "fp":
        element = node.operands[0].dtype
    elif element == "scale":
        element = "int32" if isinstance(given, int) else "fp32"
    return np.asarray(given, dtype=dtype(element).numpy), element


def live_nodes(graph: Graph) -> list[Node]:
    """The nodes that outputs need, in their order."""
    wanted = set(graph.outputs)
    live = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            live.append(node)
            wanted.update(node.operands)
    return live[::-1]


def _blob_values(graph: Graph, nodes: Iterable[Node]) -> list[Value]:
    """Blob constants in the order of their first use."""
    found: dict[Value, None] = {}
    for node in nodes:
        for value in node.operands:
            if value.data is not None and not value.inline:
                found[value] = None
    for value in graph.outputs:
        if value.data is not None and not value.inline:
            found[value] = None
    return list(found)


def _blob_files(values: list[Value], single: bool) -> tuple[dict[str, bytes], dict[str, tuple[str, int]]]:
    """The files by path, and (path, offset) by constant."""
    groups = [(SINGLE_BLOB, values)] if single and values else [(f"weights/{v.name}.bin", [v]) for v in values]
    files, places = {}, {}
    for relative, members in groups:
        path = MODEL_PATH + relative
        files[path], offsets = write_blobs([(value.data, value.dtype) for value in members if value.data is not None])
        places.update({value.name: (path, offset) for value, offset in zip(members, offsets, strict=True)})
    return files, places
