"""`python -m pymq`: the program `pymq`, whatever the PATH says."""

import sys

from pymq._command import main

if __name__ == "__main__":
    sys.exit(main())
