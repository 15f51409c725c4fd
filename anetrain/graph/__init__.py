"""Graphs of blocks: what is computed where, of which parameters. See builder.py."""

from anetrain.graph.builder import BlockGraph, Place, on_device, place
from anetrain.graph.parameters import Parameter, Weights, bias, gain, matrix
from anetrain.graph.records import Record, accumulate, whole_record
from anetrain.mil.graph import BuildError, Node, Value

__all__ = [
    "BlockGraph",
    "BuildError",
    "Node",
    "Parameter",
    "Place",
    "Record",
    "Value",
    "Weights",
    "accumulate",
    "bias",
    "gain",
    "matrix",
    "on_device",
    "place",
    "whole_record",
]
