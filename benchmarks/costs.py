"""What a discovery costs, stage by stage: processor time, and memory that is no file's."""

from __future__ import annotations

import time
from pathlib import Path

BEGINS = {
    "Reading the picks": "reading",
    "Estimating the size": "starts",
    "Searching every": "exhaustive search",
    "Refining": "refining",
}
"""How the message of the step begins with which a stage does."""


class Told:
    """Processor seconds of each stage, and the most memory in GiB held at a step that is no file's."""

    def __init__(self) -> None:
        self.seconds, self.memory = dict.fromkeys(BEGINS.values(), 0.0), 0.0
        self._stage, self._since = "reading", time.process_time()

    def note(self, message: str) -> None:
        """A step has been reached: what went before belongs to the stage that it was in."""
        now = time.process_time()
        self.seconds[self._stage] += now - self._since
        named = [stage for words, stage in BEGINS.items() if message.startswith(words)]
        self._stage, self._since = named[0] if named else self._stage, now
        self.memory = max(self.memory, _anonymous())


def _anonymous() -> float:
    """Memory that is no file's, in GiB: tomograms that lie mapped in it are the system's to drop."""
    lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []
    held = [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
    return held[0] / 2**20 if held else float("nan")
