"""PyTorch models: a TorchScript archive, a torch.export archive, or weights beside the class that they belong to."""

import os

# Before torch is imported: OpenMP's threads wait for one another without spinning. Servers share their CPUs, and a thread
# that spins keeps from working the one that it waits for: 3 ms became 120 ms for a small CNN with two threads on two busy
# cores (measured 2026-11-21).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
