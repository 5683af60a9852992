"""Disks that fill up, that cannot be written, and files that are damaged, for a gateway to live on."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.e2e.process import GatewayProcess

DAMAGE = b"\xa5" * 4096


class Disk(Protocol):
    """A place for the log. `squeeze` leaves room for little more, `relieve` gives it back."""

    folder: Path

    def squeeze(self, gateway: GatewayProcess) -> None: ...

    def relieve(self, gateway: GatewayProcess) -> None: ...


class FullDisk:
    """A file system of its own, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def squeeze(self, gateway: GatewayProcess) -> None:
        used = sum(part.stat().st_blocks * 512 for part in self.folder.iterdir())
        self.remount(f"size={used + 2_000_000}")

    def relieve(self, gateway: GatewayProcess) -> None:
        self.remount("size=256m")

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True, capture_output=True)


class LimitedFiles:
    """No file of the gateway's may grow beyond a limit, which the kernel refuses like a full disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def squeeze(self, gateway: GatewayProcess) -> None:
        largest = max(part.stat().st_size for part in self.folder.iterdir())
        limit = largest + 1_000_000
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (limit, limit))

    def relieve(self, gateway: GatewayProcess) -> None:
        pass  # the next process is not limited


@contextlib.contextmanager
def disk(kind: str, folder: Path) -> Iterator[Disk]:
    """A disk of one's own; skips where a file system cannot be mounted."""
    folder.mkdir()
    if kind == "limited files":
        yield LimitedFiles(folder)
        return
    with mounted(folder):
        yield FullDisk(folder)


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "none", folder]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True, capture_output=True)


def damage(path: Path, *, after: int = 0) -> None:
    """Overwrite everything after so many bytes, in place."""
    with path.open("r+b") as file:
        file.seek(after)
        for _ in range(after, path.stat().st_size, len(DAMAGE)):
            file.write(DAMAGE)
