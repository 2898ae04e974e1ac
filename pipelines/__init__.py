"""One file per DVC stage, in data-flow order."""
