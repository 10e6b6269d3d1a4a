"""Make and remove cgroups below a folder, evenly: FOLDER PER_SECOND SECONDS."""

from __future__ import annotations

import os
import sys
import time

_ALIVE = 20


def main(folder: str, per_second: int, seconds: int) -> None:
    """Each lives until twenty more have been made."""
    began = time.monotonic()
    for number in range(per_second * seconds):
        os.mkdir(f"{folder}/churn-{number}")
        if number >= _ALIVE:
            os.rmdir(f"{folder}/churn-{number - _ALIVE}")
        time.sleep(max(0.0, began + (number + 1) / per_second - time.monotonic()))
    for number in range(per_second * seconds - _ALIVE, per_second * seconds):
        os.rmdir(f"{folder}/churn-{number}")
    sys.stdout.write(f'{{"made": {per_second * seconds}}}')


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
