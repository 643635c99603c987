"""The lock of a run folder: held by one process, and by none when that has ended."""

import fcntl
import os
import stat
from pathlib import Path


class FolderLostError(OSError):
    """The run folder was deleted, moved or replaced while the run was going on."""

    def __init__(self, folder: Path):
        super().__init__(
            f"the run folder {folder} was deleted, moved or replaced, so the run has ended. If it was moved, move it "
            "back. Then run the same command: it goes on from the last checkpoint, or from the start where there is "
            "none."
        )


class Lock:
    """A lock on a folder, taken when it is made.

    Args:
        folder: an existing folder; the lock is the file .lock in it.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be made, or is not a regular file.
    """

    def __init__(self, folder: Path):
        self._folder, self._path = folder, folder / ".lock"
        self._file: int | None = None
        while True:
            if os.path.lexists(self._path) and (self._path.is_symlink() or not self._path.is_file()):
                raise OSError(0, "it is not a regular file", str(self._path))
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
            try:
                # The system lets go of the lock when the process ends, however it ends.
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException:
                os.close(self._file)
                raise
            # The folder may have been deleted and made again between the two.
            if self.is_in_place():
                return
            os.close(self._file)
            folder.mkdir(parents=True, exist_ok=True)

    def is_in_place(self) -> bool:
        """Whether the locked file is still the one in the folder."""
        try:
            mine, found = os.fstat(self._file if self._file is not None else -1), os.lstat(self._path)
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and os.path.samestat(mine, found)

    def check(self) -> None:
        """Raises FolderLostError where the folder is no longer the one that was locked."""
        if not self.is_in_place():
            raise FolderLostError(self._folder)

    def close(self) -> None:
        """Lets go of the lock; again: nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
