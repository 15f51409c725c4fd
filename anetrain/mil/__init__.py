"""MIL programs: the op table, a typed graph builder, the text writer, weight blobs."""

from anetrain.mil.blobs import read_blob, write_blob, write_blobs
from anetrain.mil.graph import BuildError, Graph, Value
from anetrain.mil.text import Program
from anetrain.mil.types import TensorType

__all__ = ["BuildError", "Graph", "Program", "TensorType", "Value", "read_blob", "write_blob", "write_blobs"]
