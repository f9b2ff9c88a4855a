"""Start of the worker process, by path and without site-packages: `python -I -S boot.py DIRECTORY LOCK`."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from codex_counsel.jobs.worker import main

sys.exit(main(sys.argv[1], int(sys.argv[2])))
