"""Git command → what it says; None where there is no git."""

import subprocess
from pathlib import Path


def git(*arguments: str, folder: Path = Path()) -> str | None:
    """What a git command says in a folder; None where there is no git or it fails."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
