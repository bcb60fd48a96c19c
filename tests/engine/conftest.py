"""Engine tests compute on one thread: quick on a busy machine, and the same to the bit on any."""

import torch

torch.set_num_threads(1)
