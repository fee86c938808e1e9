"""Run the command line as ``python -m corridor``."""

import os
import sys

from corridor.cli import main

if __name__ == "__main__":
    status = main()
    from corridor.train.processes import launched  # Ctrl-C during imports is handled in main

    if status and launched():  # threads of a broken process group can hang the exit
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
