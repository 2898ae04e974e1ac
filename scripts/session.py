"""Run a command with one Ray session for all stages that it starts: `session.py dvc repro`.

Each stage would start its own, some ten seconds each. With RAY_ADDRESS the cluster is the session.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

from pipelines.cluster import cores, ray_session


def main() -> int:
    """The command's exit status, once it and all that it started have ended."""
    if os.environ.get("RAY_ADDRESS") or cores() == 1:
        os.execvp(sys.argv[1], sys.argv[1:])
    with ray_session():
        import ray

        address = ray.get_runtime_context().gcs_address
        command = subprocess.Popen(
            sys.argv[1:], env=os.environ | {"RAY_ADDRESS": address}, start_new_session=True
        )
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: os.killpg(command.pid, number))
        status = command.wait()
        with suppress(ProcessLookupError):  # a stage that outlives the command saves its state
            while True:
                os.killpg(command.pid, 0)
                time.sleep(0.5)
        return status if status >= 0 else 128 - status  # as a shell tells of signals


if __name__ == "__main__":
    sys.exit(main())
