"""`fixtalk` command line → leaderboard on screen, health of the installation."""

import importlib.metadata
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
DISK_GB = 5  # what `make repro` leaves room for
WATCHED = ("torch", "torchvision", "ray", "mlflow", "dvc", "av", "numba", "facenet-pytorch")


@app.command()
def leaderboard(
    results: Annotated[Path, typer.Argument(help="folder of the pipeline")] = Path("results"),
) -> None:
    """Show the leaderboard of the last `make repro`."""
    from rich.console import Console
    from rich.markdown import Markdown

    path = results / "leaderboard.md"
    if not path.is_file():
        typer.echo(f"{path} is missing: run `make repro` first", err=True)
        raise typer.Exit(1)
    Console().print(Markdown(path.read_text(encoding="utf-8")))


@app.command()
def doctor() -> None:
    """Check what the pipeline needs on this machine; exit 1 if something is missing."""
    checks = [_python(), *map(_package, WATCHED), _speech(), _detector(), _disk(), _device()]
    for good, line in checks:
        typer.echo(f"{'ok  ' if good else 'FAIL'} {line}")
    if not all(good for good, _ in checks):
        raise typer.Exit(1)


def _python() -> tuple[bool, str]:
    version = ".".join(map(str, sys.version_info[:3]))
    return (3, 11) <= sys.version_info < (3, 14), f"Python {version} (3.11 to 3.13 work)"


def _package(name: str) -> tuple[bool, str]:
    try:
        return True, f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return False, f"{name} is not installed: `make setup`"


def _speech() -> tuple[bool, str]:
    try:
        from fixtalk.synthetic.speech import find_engine

        find_engine()
    except Exception as error:
        return False, f"speech engine: {error}"
    return True, "speech engine espeak-ng"


def _detector() -> tuple[bool, str]:
    import torchvision_cpu

    try:
        kind = torchvision_cpu.install()
        import facenet_pytorch  # noqa: F401 - the import is the check
    except Exception as error:
        return False, f"face detector: {error}"
    return True, f"face detector MTCNN (torchvision {kind})"


def _disk() -> tuple[bool, str]:
    free = shutil.disk_usage(".").free / 1e9
    return free >= DISK_GB, f"disk: {free:.0f} GB free here ({DISK_GB} GB needed)"


def _device() -> tuple[bool, str]:
    import torch

    if torch.cuda.is_available():
        return True, f"device: {torch.cuda.device_count()} × {torch.cuda.get_device_name()}"
    from pipelines.cluster import cores

    return True, f"device: CPU, {cores()} workers (no GPU found; FIXTALK_WORKERS lowers this)"


if __name__ == "__main__":
    app()
