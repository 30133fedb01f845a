"""What `doctor` looks at: each check gives what it found, and the command that mends what is wrong."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
import socket
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from store.errors import LookbackError, StoreError
from store.publishing.generation import open_generation
from store.terminal import age_text, size_text, time_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.security.tls import TlsFiles
    from store.publishing.manifest import Kind

LEAST_FILES = 1024
"""Descriptors of a process: each connection and each LMDB environment takes some."""
LEAST_SHARED_BYTES = 16 << 20
LEAST_DISK_SHARE = 1.2
"""Free space, of the generation served: the next one is written beside it."""
CERTIFICATE_DAYS = 14
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found."""

    check: str
    found: str
    mend: str = ""
    """The command, or what to do; empty = nothing is wrong."""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.mend


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Where everything is; None = there is none, or it is not to be looked at."""

    store: Path | None = None
    index: Path | None = None
    bundle: Path | None = None
    config: Path | None = None
    search: str | None = None
    """host:port of the search service."""
    server: str | None = None
    """host:port of the ranking service."""


def check_versions() -> Iterator[Finding]:
    """Compares the packages that are installed with those that are asked for."""
    try:
        wanted = importlib.metadata.requires("lookback") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            check="versions", found="lookback runs without being installed", mend="pip install 'lookback[cpu]'"
        )
        return
    needed = [need for need in map(Requirement, wanted) if need.marker is None or need.marker.evaluate({"extra": ""})]
    wrong = 0
    for need in needed:
        try:
            have = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            have = ""
        if not have or not need.specifier.contains(have, prereleases=True):
            wrong += 1
            found = f"{need.name} {have or 'is not installed'}, {need.specifier or 'any version'} is needed"
            yield Finding(check="versions", found=found, mend=f"pip install '{need.name}{need.specifier}'")
    engines = [name for name in ("faiss-cpu", "faiss-gpu") if _installed(name)]
    if len(engines) != 1:
        found = f"{' and '.join(engines) or 'neither faiss-cpu nor faiss-gpu'} installed, one of them is needed"
        yield Finding(check="versions", found=found, mend="pip uninstall -y faiss-cpu faiss-gpu; pip install faiss-cpu")
    elif not wrong:
        found = f"lookback {importlib.metadata.version('lookback')} and the {len(needed)} packages it needs"
        yield Finding(check="versions", found=found)


def check_ports(ports: Sequence[int]) -> Iterator[Finding]:
    """Tries to listen."""
    for port in ports:
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError as error:
                found = f"cannot be listened on: {error.strerror}"
                yield Finding(check=f"port {port}", found=found, mend=f"ss -ltnp 'sport = :{port}', or another --port")
            else:
                yield Finding(check=f"port {port}", found="is free")


def check_clock(at: Installation, now_s: float) -> Iterator[Finding]:
    """Looks for generations that were published later than now."""
    for kind, root in roots_of(at):
        try:
            manifest = open_generation(root, kind, check_content=False).manifest
        except StoreError:
            continue  # said by `check_artefacts`
        ahead_s = manifest.created_ms / 1000 - now_s
        if ahead_s > 60:
            found = f"{kind} {manifest.name} was published {age_text(round(ahead_s * 1000))} from now"
            yield Finding(check="clock", found=found, mend="timedatectl set-ntp true, here or where it was published")
            return
    yield Finding(check="clock", found=f"{time_text(round(now_s * 1000))} UTC, nothing was published later")


def check_certificates(tls: TlsFiles | None, tokens: Path | None, now_s: float) -> Iterator[Finding]:
    """Reads certificates and tokens as a server does, and looks when they end."""
    from serving.security.tls import read_certificate
    from serving.security.tokens import read_tokens

    if tls is not None:
        mend = f"openssl x509 -in {tls.cert} -noout -dates, then put another one there: docs/security.md"
        with as_finding("certificate", mend) as broken:
            left_s = read_certificate(tls).not_after_s - now_s
            found = f"{tls.cert} is good for {age_text(round(left_s * 1000))}"
            yield Finding(check="certificate", found=found, mend=mend if left_s < CERTIFICATE_DAYS * _DAY_S else "")
        yield from broken
    if tokens is not None:
        mend = "lookback-model token, and its line into the file: docs/security.md"
        with as_finding("tokens", mend) as broken:
            known = read_tokens(tokens).values()
            ended = [each.caller for each in known if each.expires_s is not None and each.expires_s <= now_s]
            found = f"{len(known)} tokens" + (f"; those of {', '.join(ended)} have ended" if ended else "")
            yield Finding(check="tokens", found=found, mend=mend if ended or not known else "")
        yield from broken


def check_disk(at: Installation) -> Iterator[Finding]:
    """Compares free space with what the next generation needs."""
    for kind, root in roots_of(at):
        if not root.is_dir():
            continue
        size = max((_size(each) for each in (root / "generations").glob("*") if each.is_dir()), default=0)
        free = shutil.disk_usage(root).free
        found = f"{size_text(free)} free beside {root}, the largest {kind} generation has {size_text(size)}"
        mend = f"free some: df -h {root}; fewer generations: --keep" if free < LEAST_DISK_SHARE * size else ""
        writable = os.access(root, os.W_OK)
        yield Finding(check=f"disk of the {kind}", found=found, mend=mend)
        if not writable:
            yield Finding(check=f"disk of the {kind}", found=f"{root} may not be written", mend=f"chown/chmod {root}")


def check_limits() -> Iterator[Finding]:
    """Looks at what the system lets a process have."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    mend = f"ulimit -n {LEAST_FILES} (systemd: LimitNOFILE=)" if 0 <= files < LEAST_FILES else ""
    yield Finding(check="open files", found=f"{files} a process", mend=mend)
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    mend = "ulimit -v unlimited: LMDB maps whole files" if memory != resource.RLIM_INFINITY else ""
    yield Finding(check="address space", found="unlimited" if not mend else size_text(memory), mend=mend)
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        mend = "mount -o remount,size=1G /dev/shm (docker: --shm-size)" if free < LEAST_SHARED_BYTES else ""
        yield Finding(check="shared memory", found=f"{size_text(free)} free in {shared}", mend=mend)


def roots_of(at: Installation) -> list[tuple[Kind, Path]]:
    """Gives the roots that there are, by kind."""
    roots: list[tuple[Kind, Path | None]] = [("store", at.store), ("index", at.index), ("model", at.bundle)]
    return [(kind, root) for kind, root in roots if root is not None]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


@contextmanager
def as_finding(check: str, mend: str) -> Iterator[list[Finding]]:
    """Makes a finding of an error of ours."""
    broken: list[Finding] = []
    try:
        yield broken
    except LookbackError as error:
        broken.append(Finding(check=check, found=str(error), mend=mend))
