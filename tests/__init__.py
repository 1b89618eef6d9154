"""Tests; each module is named after what it tests."""

import signal

# A shell starts what it runs in the background with interrupts ignored, and programs that tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)
