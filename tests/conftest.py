from __future__ import annotations

import torch

# As in the processes that train and serve: denormal numbers make a CPU many times slower.
torch.set_flush_denormal(True)
# Tests of the service run other processes on the same cores.
torch.set_num_threads(1)
