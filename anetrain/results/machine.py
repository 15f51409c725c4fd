"""The computer and the code that measured: what a reader needs to compare results, and nothing that tells who it is."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from anetrain import cpu, device
from anetrain.results.schema import Machine, Provenance


def this_machine() -> Machine:
    mac = sys.platform == "darwin"
    return Machine(
        model=_sysctl("hw.model") if mac else "",
        processor=_sysctl("machdep.cpu.brand_string") if mac else _linux_processor(),
        performance_cores=_count(_sysctl("hw.perflevel0.physicalcpu")) if mac else None,
        efficiency_cores=_count(_sysctl("hw.perflevel1.physicalcpu")) if mac else None,
        cpus=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"macOS {platform.mac_ver()[0]}" if mac else platform.system(),
        kernel=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
    )


def provenance(command: str, *, seed: int, scale: str) -> Provenance:
    return Provenance(
        command=command,
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seed=seed,
        scale=scale,
        anetrain=device.version(),
        commit=commit(),
        python=platform.python_version(),
        numpy=np.__version__,
        blas=cpu.blas_name(),
    )


def anonymous(text: str) -> str:
    """What a process said, without the folders of this machine."""
    for folder, name in ((Path.cwd(), "."), (Path(__file__).resolve().parents[2], "."), (Path.home(), "~")):
        if folder != folder.parent:
            text = text.replace(str(folder), name)
    return text


@functools.cache
def commit() -> str:
    """Of the clone that this file is in, with a mark when files differ from it, or that it was installed from."""
    package = Path(__file__).resolve().parent.parent
    root, installed_from = package.parent, package / "COMMIT"
    if not (root / ".git").exists():
        return installed_from.read_text().strip() if installed_from.exists() else ""
    return _output("git", "-C", str(root), "describe", "--always", "--dirty", "--match", "")


def _sysctl(name: str) -> str:
    return _output("/usr/sbin/sysctl", "-n", name)


def _output(*command: str) -> str:
    """Empty where there is no such program, or it says no: a fact less, no reason not to measure."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _count(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _linux_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
