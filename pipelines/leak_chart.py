"""The report of `localise` → its figure: bars for every layer, with intervals over people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.files import replacing

PLAIN, CHOSEN, PALE = "#7f93ad", "#d9822b", "#cfd8e3"
PROBES = {  # columns of a probe's row
    "identity": ("person named", "#33415c"),
    "r2_pose": ("pose R²", "#3a9188"),
    "r2_mouth": ("mouth R²", "#9cc9a9"),
    "r2_expression": ("expression R²", "#e3c565"),
}
LOWEST = -0.25  # of the probes' axis: a worse reading is as useless

Row = Mapping[str, Any]


def draw_chart(report: Mapping[str, Any], path: Path) -> None:
    """Write a picture of 1300 × 800 pixels, under a temporary name until complete."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8), dpi=100, layout="constrained")
    (exchange, statistics, silence), (base, fixtalk, text) = figure.subplots(2, 3)
    _draw_exchange(exchange, report)
    _bars(statistics, _rows(report, "B"), "score", report)
    _entitle(statistics, "B  source's statistics in driver's pass", "leakage lost per motion error")
    _bars(silence, _rows(report, "D"), "d_li", report)
    _entitle(silence, f"D  channels of the {report['configured']}-px map silenced", "ΔLI")
    silence.set_xlabel("group of channels")
    silence.tick_params(axis="x", labelsize=8)
    _draw_probes(base, report, "base")
    _draw_probes(fixtalk, report, "fixtalk")
    text.axis("off")
    text.text(0, 1, _verdict(report), va="top", fontsize=11, linespacing=1.5)
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def _entitle(panel: Any, title: str, unit: str) -> None:
    panel.set_title(title, loc="left", fontsize=11)
    panel.set_ylabel(unit)
    panel.spines[["top", "right"]].set_visible(False)


def _rows(report: Mapping[str, Any], variant: str, model: str = "base") -> list[Row]:
    rows = report["rows"]
    return [row for row in rows if (row["model"], row["variant"]) == (model, variant)]


def _draw_exchange(panel: Any, report: Mapping[str, Any]) -> None:
    """Leakage with one of the driver's maps, with all others, and with none."""
    rest = [row["li"][0] for row in _rows(report, "A_rest")]
    rows = _rows(report, "A")
    panel.bar(range(len(rest)), rest, 0.8, color=PALE, label="all but this one")
    _bars(panel, rows, "li", report, width=0.5)
    plain = _rows(report, "none")[0]["li"][0]
    panel.axhline(plain, color="black", linewidth=1, linestyle="--", label="none")
    _entitle(panel, "A  driver's map painted for source's", "LI: cosine to driver less control")
    panel.legend(frameon=False)


def _bars(
    panel: Any, rows: Sequence[Row], column: str, report: Mapping[str, Any], width: float = 0.7
) -> None:
    """One bar a row; the chosen map stands out, the configured one has a star."""
    is_map = rows[0]["variant"] != "D"
    for place, row in enumerate(rows):
        is_chosen = is_map and row["layer"] == report["chosen"]
        colour = CHOSEN if is_chosen else PLAIN
        panel.bar(place, row[column][0], width, color=colour, **_whiskers([row[column]]))
    panel.set_xticks(range(len(rows)), _names(rows, report))
    panel.axhline(0, color="black", linewidth=0.5)
    if is_map:
        panel.set_xlabel("side of the map, pixels")


def _draw_probes(panel: Any, report: Mapping[str, Any], model: str) -> None:
    """Identity and motion read from every layer, side by side."""
    rows = _rows(report, "C", model)
    width = 0.8 / len(PROBES)
    for number, (column, (label, colour)) in enumerate(PROBES.items()):
        places = [place + (number - 1.5) * width for place in range(len(rows))]
        values = [[max(LOWEST, value) for value in row[column]] for row in rows]
        heights = [value[0] for value in values]
        panel.bar(places, heights, width, color=colour, label=label, **_whiskers(values))
    panel.axhline(rows[0]["chance"], color="black", linewidth=1, linestyle=":", label="chance")
    panel.axhline(0, color="black", linewidth=0.5)
    panel.set_ylim(LOWEST, 1.35)
    panel.set_yticks([0, 0.25, 0.5, 0.75, 1])
    panel.set_xticks(range(len(rows)), _names(rows, report))
    panel.set_xlabel("layer of the driving pass, in its order")
    _entitle(panel, f"C  what the layers of {model} tell", f"share; R² (cut at {LOWEST})")
    panel.legend(frameon=False, ncols=3, fontsize=8, loc="upper center")


def _names(rows: Sequence[Row], report: Mapping[str, Any]) -> list[str]:
    """Of the layers, the configured map with a star."""
    star = "" if rows[0]["variant"] == "D" else str(report["configured"])
    return [f"{row['layer']}★" if str(row["layer"]) == star else str(row["layer"]) for row in rows]


def _whiskers(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Arguments of `bar` for intervals (value, low, high)."""
    below = [max(0.0, value - low) for value, low, _ in values]
    above = [max(0.0, high - value) for value, _, high in values]
    return {"yerr": [below, above], "error_kw": {"linewidth": 1, "capsize": 2}}


def _verdict(report: Mapping[str, Any]) -> str:
    named = ", ".join(f"{variant}: {side}" for variant, side in report["named"].items())
    sums = "\n".join(
        f"   {side} px: {value:.0f}  [{low:.0f}, {high:.0f}]"
        for side, (value, low, high) in report["rank_sums"].items()
    )
    is_clear = report["separable"]
    leaks = {name: _rows(report, "none", name)[0]["li"] for name in ("base", "fixtalk")}
    return "\n".join(
        [
            f"Leak map: {report['chosen']} px (orange)",
            "the best rank sum" if is_clear else "not separable: the configured map stays (★)",
            f"Named by {named}",
            f"The variants {'agree' if report['agreement'] else 'disagree'}",
            "Sum of ranks in A, B and C:",
            sums,
            "Leakage without an exchange:",
            *(
                f"   {name}: {v:.3f}  [{low:.3f}, {high:.3f}]"
                for name, (v, low, high) in leaks.items()
            ),
            f"{report['pairs']['cross']} pairs, {report['people']} people; bars: 95 % over people",
            f"control: {report['control']}",
        ]
    )
