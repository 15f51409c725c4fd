"""Programs that run one after the other, each on what the ones before it left: no byte is copied between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from anetrain.bench.base import written
from anetrain.device import Device, Port, Program, Request, Surface, fetch, store
from anetrain.mil import Graph


@dataclass(frozen=True)
class Linked:
    """An output of one program and an input of a later one that have the same name are one surface."""

    programs: Sequence[Program]
    requests: Sequence[Request]
    surfaces: Mapping[str, Surface]
    ports: Mapping[str, Port]

    @classmethod
    def of(
        cls,
        device: Device,
        graphs: Sequence[Graph],
        arrays: Mapping[str, npt.NDArray[Any]],
        label: str,
    ) -> Linked:
        """Compiles all of them and writes `arrays` to the inputs that no program makes."""
        programs, requests = [], []
        surfaces: dict[str, Surface] = {}
        ports: dict[str, Port] = {}
        for index, graph in enumerate(graphs):
            source = written(device, graph, single_blob=True)
            program = device.compile(source, label=label if len(graphs) == 1 else f"{label} {index}")
            for port in (*program.inputs, *program.outputs):
                if ports.setdefault(port.name, port).shape != port.shape:
                    raise ValueError(f"{port.name} is {port.shape} here, and was {ports[port.name].shape}")
                if port.name not in surfaces:
                    surfaces[port.name] = device.surface_for(port)
            inputs = {port.name: surfaces[port.name] for port in program.inputs}
            requests.append(program.request(inputs, {port.name: surfaces[port.name] for port in program.outputs}))
            programs.append(program)
        for name, array in arrays.items():
            store(surfaces[name], ports[name], array.reshape(ports[name].shape))
        return cls(programs, requests, surfaces, ports)

    def run(self) -> None:
        for request in self.requests:
            request.run()

    def read(self, name: str) -> npt.NDArray[Any]:
        """In its port's shape and dtype."""
        return fetch(self.surfaces[name], self.ports[name])
