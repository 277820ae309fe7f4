"""``python -m tool_servers.stdio.child PARENT FOLDER COMMAND…``: become COMMAND in FOLDER, and be
killed when PARENT ends.
"""

from __future__ import annotations

import os
import sys

from tool_servers.common import lifetime


def main() -> None:
    parent, folder, *command = sys.argv[1:]
    try:
        lifetime.end_with_parent(int(parent))  # outlives execve(2)
        os.chdir(folder)  # only now: Python imports from the folder in which it starts
        os.execvp(command[0], command)
    except (OSError, lifetime.ParentGone) as error:
        sys.stderr.write(f"{command[0]}: {error}\n")
        raise SystemExit(127) from None


if __name__ == "__main__":
    main()
