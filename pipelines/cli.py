"""`fixtalk` command line → leaderboard on screen, health of the installation, judges' weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
weights_app = typer.Typer(
    no_args_is_help=True, help="Published networks that judge: list, fetch, verify."
)
app.add_typer(weights_app, name="weights")
systems_app = typer.Typer(
    no_args_is_help=True, help="Systems of others: list, run your checkout of one, import videos."
)
app.add_typer(systems_app, name="systems")
WEIGHTS = Path("models/weights")
WeightsFolder = Annotated[Path, typer.Option("--folder", help="where the weights lie")]


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
def score(
    generated: Annotated[Path, typer.Option(help="folder of the system's videos")],
    reference: Annotated[Path, typer.Option(help="folder of the true videos, equal names")],
    out: Annotated[Path, typer.Option(help="folder for table, numbers and report")],
    audio: Annotated[Path | None, typer.Option(help="folder of sounds, equal names")] = None,
    protocol: Annotated[str, typer.Option(help="full (HDTF's table) or eat128 (MEAD's)")] = "full",
    weights: Annotated[Path, typer.Option(help="folder of published weights")] = WEIGHTS,
    judges: Annotated[
        Path | None, typer.Option(help="also ask the project's own judges (rendered people only)")
    ] = None,
) -> None:
    """Score any system's videos against references, matched by name; no training needed."""
    from rich.console import Console
    from rich.markdown import Markdown

    from fixtalk.media import MediaError
    from pipelines.compare import compare
    from pipelines.matching import CompareError
    from pipelines.weights import WeightsError

    try:
        report = compare(generated, reference, out, preset=protocol, weights=weights,
                         audio=audio, judges=judges)  # fmt: skip
    except (CompareError, MediaError, WeightsError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None
    Console().print(Markdown(report))
    typer.echo(f"written: {out}/report.md, metrics.json, scores.parquet, coverage.json")


@app.command()
def doctor() -> None:
    """Check versions, storage, disk, weights, ports, cluster; exit 1 if something must change."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipelines.doctor import examine

    findings = examine()
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "", "found", "what to do"):
        table.add_column(heading, no_wrap=heading in ("check", ""), overflow="fold")
    colours = {"OK": "green", "WARN": "yellow", "FAIL": "red"}
    for check, state, found, remedy in findings:
        table.add_row(check, Text(state, colours[state]), Text(found), Text(remedy))
    Console().print(table)
    if any(finding.state == "FAIL" for finding in findings):
        raise typer.Exit(1)


@weights_app.command("list")
def list_weights(folder: WeightsFolder = WEIGHTS) -> None:
    """Show what there is, under which licence, and what is here already."""
    from metrics.registry import OFFICIAL

    for name, entry in OFFICIAL.items():
        here = "here" if (folder / entry.file).is_file() else "not fetched"
        typer.echo(f"{name}: {here}\n  for      {entry.purpose}\n  licence  {entry.licence}")
        typer.echo(f"  sha256   {entry.sha256 or 'none published'}\n  from     {entry.url}")


@weights_app.command()
def fetch(
    name: str,
    folder: WeightsFolder = WEIGHTS,
    accept_licence: Annotated[bool, typer.Option("--accept-licence")] = False,
    source: Annotated[Path | None, typer.Option("--from", help="copy this file instead")] = None,
) -> None:
    """Download the weights of one network, or copy them, and check them."""
    from pipelines import weights as store

    try:
        found = store.fetch(name, folder, accept_licence, source)
    except (store.WeightsError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{found.path}: {found.status}, sha256 {found.sha256}")


@weights_app.command()
def verify(folder: WeightsFolder = WEIGHTS) -> None:
    """Check what is here against the published checksums; exit 1 if something is wrong."""
    from pipelines import weights as store

    rows = store.verify(folder)
    for row in rows:
        found = f", sha256 {row.sha256}" if row.is_good else ""
        typer.echo(f"{row.name:12} {row.status}{found}")
    if any(not row.is_good and row.status != "missing" for row in rows):
        raise typer.Exit(1)


@app.command()
def gate(
    baseline: Annotated[Path, typer.Argument(help="scored folder that is good enough")],
    current: Annotated[Path, typer.Argument(help="scored folder that may take its place")],
    out: Annotated[Path | None, typer.Option(help="Markdown file for the verdict")] = None,
) -> None:
    """Tell whether a system is no worse than a baseline: exit 0 PASS, 1 FAIL, 3 INCONCLUSIVE."""
    import os

    from rich.console import Console
    from rich.markdown import Markdown

    from pipelines import gate as judgement
    from pipelines.config import load_config
    from pipelines.files import write_text

    try:
        config = load_config(judgement.GateConfig, "gate")
        verdict = judgement.gate(config, baseline, current)
        if out:
            write_text(out, verdict.text)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(verdict.text)
    except (ValueError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    Console().print(Markdown(verdict.text))
    raise typer.Exit(judgement.EXIT_CODES[verdict.state])


@app.command()
def why(
    before: Annotated[Path, typer.Argument(help="scored folder")],
    after: Annotated[Path, typer.Argument(help="scored folder whose numbers moved")],
) -> None:
    """Tell what differs between two scored folders, and how far each metric moved."""
    from rich.console import Console
    from rich.markdown import Markdown

    from pipelines import why as reasons

    try:
        text = reasons.why(before, after)
    except (ValueError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None
    Console().print(Markdown(text))


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


if __name__ == "__main__":
    app()
