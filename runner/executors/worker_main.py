"""The way into a worker process: a script is compiled anew at each start, what it imports is not."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import worker  # type: ignore[import-not-found]

worker.main()
