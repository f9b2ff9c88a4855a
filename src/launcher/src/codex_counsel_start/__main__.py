import sys

from codex_counsel_start import main

sys.exit(main())
