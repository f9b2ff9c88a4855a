"""Start of the worker process, by path and without site-packages: `python -I -S boot.py DIRECTORY LOCK`."""

import os
import sys

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
)

from codex_counsel.jobs.worker import main  # found by the line above

code = 0
try:
    main(sys.argv[1], int(sys.argv[2]))
except BaseException:  # noqa: BLE001  # the traceback in stderr.log is all that can be left
    sys.excepthook(*sys.exc_info())
    code = 1

# Everything is flushed by now. Whoever reads our stdout waits for its end, so nothing
# is torn down first.
os._exit(code)
