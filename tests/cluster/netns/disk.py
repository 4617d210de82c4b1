"""A disk under one node that can be made slow or fail: disk.c between the broker and the C library.

Not a file system of its own, which would need FUSE or a device mapper in the kernel of whoever runs the tests, and would
be slower than a disk in all other rounds: here nothing is in the way while nothing is asked for.
"""

import functools
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

from blocking import Failed

SOURCE = pathlib.Path(__file__).resolve().parent / "disk.c"
# struct control: what is asked for, what came about, which files.
ASKED, COUNTED, PART = "=4I", "=4I", "=64s"
SIZE = struct.calcsize(ASKED) + struct.calcsize(COUNTED) + struct.calcsize(PART)


def compiler():
    return shutil.which(os.environ.get("CC", "cc"))


@functools.cache
def library():
    """Builds disk.c; Failed says why it cannot be."""
    to = pathlib.Path(tempfile.mkdtemp(prefix="nightjar-test-disk-")) / "disk.so"
    done = subprocess.run([compiler() or "cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(to),
                           str(SOURCE), "-ldl"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"disk.c does not build: {done.stderr[-500:]}")
    return to


class Disk:
    """What is asked of the disk below `directory`; a process gets it by `environment`."""

    def __init__(self, control, directory):
        self.control, self.directory = control, directory
        # Is anything asked for?
        self.asked = False
        control.write_bytes(b"\0" * SIZE)

    def environment(self):
        return {"LD_PRELOAD": str(library()), "TEST_DISK_CONTROL": str(self.control), "TEST_DISK_DIR": str(self.directory)}

    def ask(self, slow=0, sync=False, write=False, read=False, part=""):
        """Each sync takes `slow` ms longer, syncs, writes or reads fail, of files with `part` in their path."""
        self.asked = bool(slow or sync or write or read)
        with open(self.control, "r+b", buffering=0) as file:
            # Which files, before what.
            file.seek(struct.calcsize(ASKED) + struct.calcsize(COUNTED))
            file.write(struct.pack(PART, part.encode()))
            file.seek(0)
            file.write(struct.pack(ASKED, slow, sync, write, read) + struct.pack(COUNTED, 0, 0, 0, 0))

    def heal(self):
        """Back to a good disk; how often it was slow or failed."""
        struck = self.struck()
        self.ask()
        return struck

    def struck(self):
        """How often a sync was slow or something failed since it was asked for."""
        at = struct.calcsize(ASKED)
        return sum(struct.unpack_from(COUNTED, self.control.read_bytes(), at))
