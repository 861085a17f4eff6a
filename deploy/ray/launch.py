"""Becomes `glmserve`, which ends when the process that started it ends.

launch.py serve --uds PATH ...
"""

from __future__ import annotations

import os
import sys

from glmserve.process.parent import die_with

die_with(os.getppid())
os.execv(sys.executable, [sys.executable, "-m", "glmserve", *sys.argv[1:]])
