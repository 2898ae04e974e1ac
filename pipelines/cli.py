"""`fixtalk` command line → animated pictures, scores, leaderboard on screen, health, weights."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.cli_systems import systems_app

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
weights_app = typer.Typer(
    no_args_is_help=True, help="Published networks that judge: list, fetch, verify."
)
app.add_typer(weights_app, name="weights")
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
def animate(
    source: Annotated[Path, typer.Option(help="picture of a person, or video: its first frame")],
    out: Annotated[Path, typer.Option(help="mp4 to write")],
    driving: Annotated[Path | None, typer.Option(help="clip that moves the person")] = None,
    audio: Annotated[Path | None, typer.Option(help="speech, file or video: moves lips")] = None,
    lips: Annotated[
        Literal["audio", "driving"], typer.Option(help="of which, given both")
    ] = "audio",
    pose: Annotated[str | None, typer.Option(help="clip of a head, still or natural")] = None,
    expression: Annotated[str | None, typer.Option(help="clip of one, still or heard")] = None,
    emotion: Annotated[str | None, typer.Option(help="of face and lips: happy, sad …")] = None,
    level: Annotated[float | None, typer.Option(help="of the emotion, 1 to 3; else 2")] = None,
    blink: Annotated[bool, typer.Option("--blink", help="close the eyes now and then")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="other poses and blinks")] = 0,
    lip_gain: Annotated[
        float, typer.Option(min=0, max=10, help="0: as the source, 2: doubled")
    ] = 1,
    pose_gain: Annotated[float, typer.Option(min=0, max=10, help="the same of the head")] = 1,
    expression_gain: Annotated[float, typer.Option(min=0, max=10, help="of the expression")] = 1,
    relative: Annotated[bool, typer.Option("--relative", help="motion since the start")] = False,
    smooth: Annotated[bool, typer.Option("--smooth", help="calm the motion")] = False,
    paste_back: Annotated[bool, typer.Option("--paste-back", help="whole picture")] = False,
    face: Annotated[int, typer.Option(min=1, help="of several, by size")] = 1,
    mark: Annotated[bool, typer.Option(help="say in the file that it is AI-generated")] = True,
    batch: Annotated[int, typer.Option(min=1, help="frames at once; 1: least delay")] = 8,
    model: Annotated[Path, typer.Option(help="folder of a trained model")] = Path("models/fixtalk"),
) -> None:
    """Move a person in a picture: lips, head and expression by clips, by speech, by name."""
    settings = dict(locals())
    from pipelines import animate as animation

    for role, words in {"pose": ("still", "natural"), "expression": ("still", "heard")}.items():
        if settings[role] not in (None, *words):
            settings[role] = Path(settings[role])
    try:
        animation.animate(animation.AnimateConfig(**settings), typer.echo)
    except (ValueError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None


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


if __name__ == "__main__":
    app()
