"""A wall clock that one program sees and a test sets; all other clocks go on."""

import os
import subprocess

SOURCE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "wall_clock.c")


class WallClock:
    def __init__(self, folder):
        library = str(folder / "wall_clock.so")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        self.file = folder / "wall_clock.offset"
        self.step(0)
        self.environment = {"LD_PRELOAD": library, "WALL_CLOCK_OFFSET": str(self.file)}

    def step(self, seconds):
        """How far it is ahead, whole seconds; replaced at once, so that nobody reads half of it."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{seconds}\n")
        fresh.replace(self.file)
