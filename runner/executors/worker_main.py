"""The way into the process that workers are forked from: a script is compiled anew at each start, what it imports is not."""

import os
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # the runner's, last

from runner.executors import forkserver

forkserver.serve()
