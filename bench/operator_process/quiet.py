# SPDX-License-Identifier: Apache-2.0
"""The operator with another QUIET_S: how long what is only measured waits to be written.

python3 quiet.py SECONDS
"""

import sys

from memplace_operator import controller
from memplace_operator.__main__ import main

if __name__ == "__main__":
    controller.QUIET_S = float(sys.argv.pop())
    main()
