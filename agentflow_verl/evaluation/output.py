"""Places that a command will write to, tried before the work is done rather than after it."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from agentflow_verl.core.errors import ConfigError


def prepare_folder(option: str, folder: Path) -> None:
    """Make ``folder`` and write in it once. Raises ConfigError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(option, folder, error) from None


def prepare_file(option: str, path: Path) -> None:
    """See that a file of this name can be written, and make its folder. Raises ConfigError where
    that is not possible.
    """
    if not path.exists():
        prepare_folder(option, path.parent)
        return
    try:
        if path.is_file():
            path.open("ab").close()
        elif path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        # Anything else, such as /dev/stdout or a FIFO, is opened once there is something to write.
    except OSError as error:
        raise _unwritable(option, path, error) from None


def _unwritable(option: str, path: Path, error: OSError) -> ConfigError:
    reason = error.strerror or str(error)
    return ConfigError(f"{option} {path} cannot be written: {reason}; name another place")
