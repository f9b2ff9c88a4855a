"""Start of the worker process, by path and without site-packages: `python -I -S boot.py DIRECTORY LOCK`."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from codex_counsel.jobs.worker import main  # found by the line above

try:
    code = main(sys.argv[1], int(sys.argv[2]))
except BaseException:  # noqa: BLE001  # the traceback is all that can be left
    sys.excepthook(*sys.exc_info())
    code = 1
os._exit(code)  # all is flushed, and whoever waits for the end of our stdout waits no longer than needed
