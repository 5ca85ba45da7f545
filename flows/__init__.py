"""The command: flows, servers and the processes they start.

Python looks for cyclic garbage so often that it takes a fifth of the start of a process that loads Prefect and MLflow,
and once more at its end, when all memory is given back anyway.
"""

import atexit
import gc

gc.set_threshold(50_000, 20, 20)  # the defaults are 700, 10, 10
atexit.register(gc.freeze)  # registered first, so called last
