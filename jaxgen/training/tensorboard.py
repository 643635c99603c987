"""Scalars for TensorBoard, each on disk when the call returns.

tensorboardX's own SummaryWriter waits in a thread for a moment of the day's clock: where that clock is set back far
enough the thread dies of it, and the training then hangs on a queue that nobody empties. Only its file format is used.
"""

import time
from pathlib import Path
from typing import Any


class Scalars:
    """An event file of one folder.

    Args:
        folder: made if absent.
        step: of the first scalars; what older files hold from this step on is not shown.

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, folder: str | Path, step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2
        from tensorboardX.summary import scalar

        messages: Any = event_pb2
        self._event, self._scalar = messages.Event, scalar
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(Path(folder) / "events"))
        self._file.write_event(self._event(step=step, file_version="brain.Event:2"))
        started = messages.SessionLog(status=messages.SessionLog.START)
        self._file.write_event(self._event(step=step, session_log=started))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """One point of each curve."""
        for name, value in metrics.items():
            self._file.write_event(self._event(wall_time=time.time(), step=step, summary=self._scalar(name, value)))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
