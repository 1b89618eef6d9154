"""One writer at a time."""

import contextlib
import fcntl

from utils.errors import InputError


@contextlib.contextmanager
def only_writer(path, what):
    """Hold the lock file ``path``; InputError if another process does. It ends with this process, however that ends.

    A POSIX record lock: unlike ``flock`` it is not inherited by worker processes, which may outlive a killed parent.
    """
    with open(path, "w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another process is writing {what}; wait for it, or stop it") from None
        yield
