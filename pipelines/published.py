"""published.csv → the paper's own numbers, in tables apart from anything measured here."""

from pathlib import Path

import pandas as pd

from pipelines.report import line

COLUMNS = {
    "psnr": "PSNR ↑ (dB)",
    "ssim": "SSIM ↑",
    "f_lmd": "F-LMD ↓",
    "m_lmd": "M-LMD ↓",
    "fid": "FID ↓",
    "csim": "CSIM ↑",
    "niqe": "NIQE ↓",
    "cpbd": "CPBD ↑",
    "acc_emo": "Acc_emo ↑ (%)",
    "sync_conf": "Sync_conf ↑",
    "motion_consistency": "motion consistency ↑",
    "identity_preservation": "identity preservation ↑",
    "image_quality": "image quality ↑",
    "fps": "FPS ↑",
    "memory_gb": "GPU memory ↓ (GB)",
}


def read_published() -> pd.DataFrame:
    """One row a task and system, numbers as printed; with its source, and what that leaves open."""
    return pd.read_csv(Path(__file__).with_suffix(".csv"), dtype=str, keep_default_na=False)


def published_lines() -> list[str]:
    """Markdown tables of all published rows, one a task."""
    lines = [
        "## Published, other protocol: not comparable", "",
        "Numbers as the paper prints them, measured by its authors on other clips, at another "
        "resolution and by other judges: they compare with one another, not with any table above.",
        "",
    ]  # fmt: skip
    for task, rows in read_published().groupby("task", sort=False):
        names = [name for name in COLUMNS if rows[name].any()]
        lines += [f"### {task}", "", line(["system", *(COLUMNS[name] for name in names)])]
        lines += [line(["---"] + ["---:"] * len(names))]
        lines += [
            line([cell or "–" for cell in cells]) for cells in rows[["system", *names]].values
        ]
        lines += ["", f"Source: {_said(rows['source'])}. Not known: {_said(rows['unknown'])}.", ""]
    return lines


def _said(values: pd.Series) -> str:
    return "; ".join(dict.fromkeys(values))
