"""Load test for any OpenAI-compatible server: the same as `glmserve bench load`.

python bench/load.py --url http://127.0.0.1:8000 --requests 100 --concurrency 16
"""

from __future__ import annotations

import sys

from glmserve.cli.main import main

if __name__ == "__main__":
    main(["bench", "load", *sys.argv[1:]])
