"""``python -m corridor`` is the command line."""

import os
import sys

from corridor.cli import main
from corridor.train.processes.launch import launched

if __name__ == "__main__":
    status = main()
    if status and launched():  # the threads of a broken process group would abort or hang at exit
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
