"""This machine → what would stop the pipeline or lay it open, each with what to do about it."""

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Literal, NamedTuple
from urllib.request import urlopen
from uuid import uuid4

import psutil

from pipelines.cluster import cores
from pipelines.panel import LOCAL, read_accuracies
from pipelines.tracking import BACKLOG, project_root, tracking_uri
from pipelines.weights import WeightsError, verify

# older ray and mlflow have published holes; training asks for what torch 2.13 brought
FLOORS = {"torch": "2.13", "ray": "2.54", "mlflow": "3.11", "dvc": "3.50", "av": "0", "numba": "0"}
OPENCV = ("opencv-python", "opencv-contrib-python", "opencv-python-headless",
          "opencv-contrib-python-headless")  # fmt: skip
RAY = re.compile(r"/ray/(core|dashboard|_private|autoscaler|util)/|^ray::")
MLFLOW = re.compile(r"\bmlflow(\.server\b| server\b| ui\b)")
VOLATILE = {"tmpfs", "ramfs"}
SHARED = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs"}
SECONDS_FOR_NETWORK = 3
SECONDS_FOR_STORAGE = 10  # hanging NFS never answers
LITTLE_DISK, NO_DISK = 5e9, 1e9  # bytes: what `make repro` leaves room for, what it cannot do with
LITTLE_MEMORY = 256e6  # bytes


class Finding(NamedTuple):
    """One check: WARN leaves the work possible, FAIL does not or leaves it open to others."""

    check: str
    state: Literal["OK", "WARN", "FAIL"]
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """All checks in the current folder, in seconds; starts neither Ray nor MLflow."""
    place = os.environ.get("FIXTALK_CHECKPOINTS") or "checkpoints"
    return [
        versions(), media(), device(), disk(), shared_memory(),
        storage("workspace", str(Path.cwd())), storage("checkpoints", place),
        weights(Path("models/weights")), judges(Path("models/judges")),
        ports(psutil.process_iter()), cluster(), token(), tracking(project_root() / BACKLOG),
    ]  # fmt: skip


def versions(floors: Mapping[str, str] = FLOORS) -> Finding:
    """Is all there and new enough, and one OpenCV? Several overwrite each other's files."""
    here = {"python": platform.python_version()}
    for name in (*floors, *OPENCV):
        with suppress(importlib.metadata.PackageNotFoundError):
            here[name] = importlib.metadata.version(name)
    needed = [f"{name} ≥ {floor}" for name, floor in floors.items()
              if name not in here or _numbers(here[name]) < _numbers(floor)]  # fmt: skip
    if not (3, 11) <= sys.version_info < (3, 14):
        needed.append("python 3.11 to 3.13")
    if len(here.keys() & set(OPENCV)) != 1:
        needed.append("one opencv wheel")
    found = ", ".join(f"{name} {version}" for name, version in here.items())
    if needed:
        return Finding("versions", "FAIL", found, f"`make clean setup`; needs {', '.join(needed)}")
    return Finding("versions", "OK", found)


def media() -> Finding:
    """Can sentences be spoken and faces be found?"""
    import torchvision_cpu
    from fixtalk.synthetic.speech import SpeechError, find_engine

    try:
        find_engine()
        kind = torchvision_cpu.install()
        import facenet_pytorch  # noqa: F401 - the import is the check
    except (SpeechError, ImportError, RuntimeError) as error:
        return Finding("media", "FAIL", str(error), "`make setup`")
    found = f"speech engine espeak-ng, face detector MTCNN (torchvision {kind})"
    return Finding("media", "OK", found)


def device() -> Finding:
    """What computes, and on how many cores?"""
    import torch

    try:
        workers = f"{cores()} cores to use"
    except ValueError as error:
        return Finding("device", "FAIL", str(error), "correct or unset FIXTALK_WORKERS")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Finding("device", "OK", ", ".join([*(gpus or ["CPU only"]), workers]))


def disk(free: float | None = None) -> Finding:
    """Is there room below the current folder? `free` is in bytes, asked of the disk if None."""
    free = shutil.disk_usage(".").free if free is None else free
    state = "FAIL" if free < NO_DISK else "WARN" if free < LITTLE_DISK else "OK"
    remedy = "" if state == "OK" else f"leave {LITTLE_DISK / 1e9:.0f} GB free"
    return Finding("disk", state, f"{free / 1e9:.1f} GB free", remedy)


def shared_memory(folder: Path = Path("/dev/shm"), little: float = LITTLE_MEMORY) -> Finding:
    """Has the folder of Ray's objects, where the system has one, `little` bytes at least?"""
    total = shutil.disk_usage(folder).total if folder.is_dir() else None
    if total is None or total >= little:
        return Finding("shared memory", "OK", f"{folder}: {(total or 0) / 1e6:.0f} MB")
    remedy = "enlarge it (docker run --shm-size=2g): else Ray takes the slow disk"
    return Finding("shared memory", "WARN", f"{folder}: {total / 1e6:.0f} MB", remedy)


def storage(check: str, place: str) -> Finding:
    """Can a file be written to a folder or fsspec URL, read back and deleted, and who sees it?"""
    remedy = "mend it" if check == "workspace" else "mend it, or set FIXTALK_CHECKPOINTS"
    try:
        kind = _within(SECONDS_FOR_STORAGE, lambda: _write_and_read(place))
    except TimeoutError:
        return Finding(check, "FAIL", f"{place} does not answer", remedy)
    except Exception as error:  # each file system of fsspec has errors of its own
        return Finding(check, "FAIL", f"{place}: {str(error) or type(error).__name__}", remedy)
    found = f"{place} ({kind})"
    if kind in VOLATILE:
        return Finding(check, "WARN", found, "it is gone at the next boot: move it to a disk")
    if os.environ.get("RAY_ADDRESS") and "://" not in kind and kind not in SHARED:
        remedy = "all nodes must see it under this path: NFS, see docs/cluster.md"
        return Finding(check, "WARN", found, remedy)
    return Finding(check, "OK", found)


def weights(folder: Path) -> Finding:
    """Are the published weights those that were published?"""
    rows = verify(folder)
    wrong = {row.status for row in rows if not row.is_good}
    state = "FAIL" if wrong - {"missing"} else "WARN" if wrong else "OK"
    found = "; ".join(f"{row.name}: {row.status}" for row in rows)
    remedy = "fixtalk weights fetch NAME --accept-licence" if wrong else ""
    return Finding("weights", state, found, remedy)


def judges(folder: Path) -> Finding:
    """Are the project's own judges the files that judges.json describes?"""
    if not folder.is_dir():
        return Finding("judges", "WARN", f"no {folder}", "`make repro` trains them")
    try:
        known = read_accuracies(folder)["judges"]
        for name in LOCAL:
            content = (folder / f"{name}.safetensors").read_bytes()
            if hashlib.sha256(content).hexdigest() != known[name]["sha256"]:
                raise WeightsError(f"{folder}/{name}.safetensors is not the file of judges.json")
    except (WeightsError, OSError, KeyError) as error:
        return Finding("judges", "FAIL", str(error), "`dvc repro --force judge`")
    return Finding("judges", "OK", ", ".join(LOCAL))


def ports(processes: Iterable[psutil.Process]) -> Finding:
    """Do Ray or MLflow of this user let other machines run code here without a token?"""
    reached, remedies = [], set()
    for process in processes:
        with suppress(psutil.Error):  # it ended, or is another user's
            command = " ".join(process.cmdline())
            program = "Ray" if RAY.search(command) else "MLflow" if MLFLOW.search(command) else ""
            if not program or process.uids().real != os.getuid():
                continue
            for one in process.net_connections("inet"):
                if one.status != psutil.CONN_LISTEN or _is_loopback(one.laddr.ip):
                    continue
                reached.append(f"{program} on {one.laddr.ip} port {one.laddr.port}")
                if program == "MLflow":
                    remedies.add("serve MLflow with --host 127.0.0.1")
                elif _auth_mode(process) != "token":
                    remedies.add("start Ray with RAY_AUTH_MODE=token, see docs/cluster.md")
    found = ", ".join(reached) or "none beyond loopback"
    if remedies:
        return Finding("ports", "FAIL", found, "; ".join(sorted(remedies)))
    return Finding("ports", "OK", f"{found}: token needed" if reached else found)


def cluster() -> Finding:
    """Does the head of the cluster answer?"""
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        return Finding("cluster", "OK", "none: sessions on this machine, on loopback only")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        remedy = "RAY_ADDRESS is HOST:PORT of the head"
        return Finding("cluster", "WARN", f"RAY_ADDRESS={address} was not tried", remedy)
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_FOR_NETWORK).close()
    except (OSError, OverflowError) as error:
        remedy = "start the head (docs/cluster.md), let its port through, or unset RAY_ADDRESS"
        return Finding("cluster", "FAIL", f"RAY_ADDRESS={address}: {error}", remedy)
    return Finding("cluster", "OK", f"{address} answers")


def token() -> Finding:
    """Has a cluster a token that nobody else can read?"""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        if not os.environ.get("RAY_ADDRESS"):
            return Finding("token", "OK", "not needed on loopback")
        found = "RAY_AUTH_MODE is not token: whoever reaches the cluster may run code on it"
        return Finding("token", "WARN", found, "set RAY_AUTH_MODE=token on every node")
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Finding("token", "OK", "in RAY_AUTH_TOKEN")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not path.is_file():
        remedy = "`ray get-auth-token --generate` on one node, then copy ~/.ray/auth_token to all"
        return Finding("token", "FAIL", f"no {path}", remedy)
    if path.stat().st_mode & 0o077:
        return Finding("token", "WARN", f"others may read {path}", f"chmod 600 {path}")
    return Finding("token", "OK", str(path))


def tracking(backlog: Path) -> Finding:
    """Can runs be logged to MLflow, and do log calls wait in the folder `backlog`?"""
    uri, remedy = tracking_uri(), "mend it, or set MLFLOW_TRACKING_URI; until then log calls wait"
    folder = Path(uri.removeprefix("sqlite:///")).parent
    if uri.startswith("sqlite:///") and not os.access(folder, os.W_OK):
        return Finding("tracking", "FAIL", f"{folder} cannot be written to", remedy)
    try:
        if uri.startswith(("http://", "https://")):
            urlopen(f"{uri.rstrip('/')}/health", timeout=SECONDS_FOR_NETWORK).close()
    except (OSError, HTTPException) as error:
        return Finding("tracking", "WARN", f"{uri}: {error}", remedy)
    waiting = sum(path.read_bytes().count(b"\n") for path in backlog.glob("[!.]*.jsonl"))
    if waiting:
        found = f"{waiting} log calls wait in {backlog}"
        return Finding("tracking", "WARN", found, "none: the next stage sends them")
    return Finding("tracking", "OK", uri)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def _is_loopback(address: str) -> bool:
    parsed = ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def _auth_mode(process: psutil.Process) -> str:
    """RAY_AUTH_MODE it was started with; renamed processes lost it, their parent has it."""
    for one in (process, *process.parents()):
        with suppress(psutil.Error):
            if mode := one.environ().get("RAY_AUTH_MODE"):
                return mode.lower()
    return ""


def _within(seconds: float, action: Callable[[], str]) -> str:
    """Its result; TimeoutError after `seconds`, while a thread of its own goes on waiting."""
    future: Future[str] = Future()

    def act() -> None:
        try:
            future.set_result(action())
        except Exception as error:
            future.set_exception(error)

    Thread(target=act, daemon=True).start()
    return future.result(seconds)


def _write_and_read(place: str) -> str:
    """Kind of file system; a folder that is not there yet is tried at the nearest that is."""
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    system, folder = url_to_fs(place)
    kind = f"{place.partition('://')[0]}://"
    if isinstance(system, LocalFileSystem):
        path = Path(folder).resolve()
        folder = next(one for one in (path, *path.parents) if one.exists())
        mounts = [m for m in psutil.disk_partitions(all=True) if path.is_relative_to(m.mountpoint)]
        # of equals the last: it lies over the others
        kind = sorted(mounts, key=lambda mount: len(mount.mountpoint))[-1].fstype
    probe = f"{folder}/.doctor-{uuid4().hex}"
    try:
        system.pipe_file(probe, probe.encode())
        if system.cat_file(probe) != probe.encode():
            raise OSError("what was written is not what was read")
    finally:
        if system.exists(probe):
            system.rm_file(probe)
    return kind
