"""Tests; each module is named after what it tests."""

import os
import signal

# A shell starts what it runs in the background with interrupts ignored, and programs that tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Products of matrices in the instructions that the reference runs were made with: with wider ones sums round otherwise,
# and herding, which repeats the choice of clips at near ties, then keeps others. It is read when PyTorch is first used.
os.environ.setdefault("MKL_ENABLE_INSTRUCTIONS", "AVX2")

# One thread, as run_tests.sh has it: tests fork children, in which a second thread of OpenMP would never answer.
os.environ["OMP_NUM_THREADS"] = "1"
