"""`fixtalk systems` → systems of others listed, run, or their finished videos taken over."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

systems_app = typer.Typer(
    no_args_is_help=True, help="Systems of others: list, run your checkout of one, import videos."
)


@systems_app.command("list")
def list_systems() -> None:
    """Show the systems of the paper's tables: where they are, under which terms, how to run one."""
    import shlex

    from pipelines.systems import read_systems

    for system in read_systems().values():
        typer.echo(f"{system.name}: {system.title}\n  from     {system.where}")
        typer.echo(f"  licence  {system.licence}")
        for mode, command in system.commands.items():
            typer.echo(f"  {mode:8} {shlex.join(command)}")
        doubt = system.reason and f"not verified: {system.reason}"
        for note in filter(None, [system.inputs, *system.notes, doubt]):
            typer.echo(f"  - {note}")


@systems_app.command("run")
def run_system(
    name: str,
    checkout: Annotated[Path, typer.Option(help="your clone of its repository, with weights")],
    python: Annotated[str, typer.Option(help="Python of its own environment")],
    pairs: Annotated[
        Path, typer.Option(help="CSV pair,source,driving,audio; or results/<name>/videos/self")
    ],
    out: Annotated[Path, typer.Option(help="folder for videos, logs and coverage")],
    mode: Annotated[str | None, typer.Option(help="video or audio, where it has both")] = None,
    timeout: Annotated[float, typer.Option(help="seconds a pair may take")] = 3600,
) -> None:
    """Make a system's videos with its own code; again: only what is missing."""
    from pipelines import systems

    _make_videos(out, lambda: systems.run_system(name, checkout, python, pairs, out, mode=mode,
                                                 timeout=timeout))  # fmt: skip


@systems_app.command("import")
def import_system(
    name: str,
    folder: Annotated[Path, typer.Argument(help="its videos, named as the pairs are")],
    out: Annotated[Path, typer.Option(help="folder for videos and coverage")],
    pairs: Annotated[Path | None, typer.Option(help="CSV of what there should be")] = None,
) -> None:
    """Take over finished videos of a system, checked one by one."""
    from pipelines import systems

    _make_videos(out, lambda: systems.import_system(name, folder, out, pairs))


def _make_videos(out: Path, make: Callable[[], dict[str, Any]]) -> None:
    """Say what became of the pairs, and how to score them; exit 1 if one has no video."""
    import shlex

    from pipelines.assignments import SystemsError
    from pipelines.matching import CompareError

    try:
        coverage = make()
    except (SystemsError, CompareError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None
    made, failed, extra = (coverage[key] for key in ("made", "failed", "extra"))
    for pair, reason in failed.items():
        typer.echo(f"{pair}: {reason}", err=True)
    typer.echo(f"{len(made)} of {len(made) + len(failed)} videos; {len(extra)} not in the list")
    truth, sounds = out / "pairs" / "truth", out / "pairs" / "audio"
    options = {
        "generated": out / "videos",
        "reference": truth if truth.is_dir() else "TRUE_VIDEOS",
        **({"audio": sounds} if sounds.is_dir() else {}),
        "out": out / "scores",
    }
    typer.echo(shlex.join(["fixtalk", "score", *(f"--{k}={v}" for k, v in options.items())]))
    if failed:
        raise typer.Exit(1)
