"""Stand-ins for commands that scripts call: they record how, and answer as they are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from helpers import ROOT

_RECORDER = """\
#!{python}
import json, os, sys
from pathlib import Path
folder = Path({folder!r})
name = os.path.basename(sys.argv[0])
read = Path("/dev/stdin").read_text() if "--config=/dev/stdin" in sys.argv else ""
with (folder / "calls").open("a") as file:
    file.write(json.dumps([name, *sys.argv[1:]] + ([read] if read else [])) + "\\n")
answers = json.loads((folder / "answers").read_text())
for words, answer in answers.items():
    if words in " ".join([name, *sys.argv[1:]]):
        text = answer.pop(0) if len(answer) > 1 else answer[0]
        (folder / "answers").write_text(json.dumps(answers))
        sys.stdout.write(text)
        sys.exit(1 if text.startswith("ERROR") else 0)
"""


class Recorder:
    """Commands that are recorded while a script runs.

    Args:
      folder: for their files, empty.
      commands: their names.
      answers: words of a call → what it prints, the last of them for good; what begins with
        ``ERROR`` fails.
    """

    def __init__(self, folder: Path, *commands: str, **answers: list[str]):
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        for command in commands:
            path = folder / "bin" / command
            path.write_text(_RECORDER.format(python=sys.executable, folder=str(folder)))
            path.chmod(0o755)
        self.answer({words.replace("_", " "): answer for words, answer in answers.items()})

    def answer(self, answers: dict[str, list[str]]) -> None:
        """Answer so from now on."""
        (self.folder / "answers").write_text(json.dumps(answers))

    def run(self, script: str, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the project, by its path there, with the stand-ins first on PATH."""
        path = os.pathsep.join((str(self.folder / "bin"), os.environ["PATH"]))
        home = {"PATH": path, "HOME": str(self.folder)}
        return subprocess.run(
            [str(ROOT / script), *argv],
            env=home | environment,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
        )

    @property
    def calls(self) -> list[list[str]]:
        """What has been called so far: names and arguments, and a configuration that was read."""
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
