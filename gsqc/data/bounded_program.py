# SPDX-License-Identifier: Apache-2.0
"""Runs what may end a process or take all of a machine. `bounded_process` starts it.

    python bounded_program.py PROGRAM

PROGRAM is a file of Python. It has LIMITS, the seconds of CPU time for a short request and the
bytes of memory, and open_program(begin), which gives an object with answer(request). Both may raise
ValueError: the request is refused. It may import files of its own folder by their full names. They
import nothing else of gsqc, so that the process starts quickly.

stdin holds a JSON object per line: first `begin`, then requests. Each is answered on stdout by a
line with a JSON object, which is {"error": …} for one that is refused. If an object has the name
"raw", that many bytes follow its line. Those of a request are in its place when it is answered.
"""

from __future__ import annotations

import contextlib
import json
import math
import runpy
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

_SECOND_BITS = 14
"""Each 2^14 bytes of a request are worth a second more."""
_LOOPS = 200_000
_LOOP_SECONDS = 0.01
"""What an empty loop of that many rounds takes on the machine that the limits were set on. A slower
one gets as many times more."""
_MOST_TIMES = 100


def _limit_process(memory_bytes: int) -> None:
    """Forbid files and limit the memory. A platform without `resource` has no limits."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _slowness() -> float:
    """How many times slower this machine is, at least 1."""
    start = time.process_time()
    for _ in range(_LOOPS):
        pass
    taken = time.process_time() - start
    return min(max(taken / _LOOP_SECONDS, 1.0), _MOST_TIMES)


def _bare_packages(folder: Path) -> None:
    """Make the files of a folder of gsqc importable without what their packages import."""
    for name, path in (("gsqc", folder.parent), (f"gsqc.{folder.name}", folder)):
        package = ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package


def _limit_time(cpu_seconds: int) -> None:
    """End the process after that much CPU time from now on."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        end = math.ceil(time.process_time()) + cpu_seconds
        resource.setrlimit(resource.RLIMIT_CPU, (end, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _say(answer: dict[str, Any], raw: bytes = b"") -> None:
    if raw:
        answer = {**answer, "raw": len(raw)}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + raw)
    sys.stdout.buffer.flush()


def main() -> None:
    """Serve until stdin ends."""
    # Ctrl-C is for the parent. This process ends with the parent's pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _bare_packages(Path(sys.argv[1]).resolve().parent)
    program = runpy.run_path(sys.argv[1])
    cpu_seconds, memory_bytes = program["LIMITS"]
    slowness = _slowness()
    opened: Any = None
    answer: Any
    _limit_process(memory_bytes)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        raw = sys.stdin.buffer.read(request.get("raw", 0))
        size = len(line) + len(raw)
        _limit_time(math.ceil(slowness * (cpu_seconds + (size >> _SECOND_BITS))))
        try:
            if opened is None:
                opened, answer = program["open_program"](request), {}
            else:
                answer = opened.answer({**request, "raw": raw} if raw else request)
        except ValueError as error:
            answer = {"error": str(error)}
        _say(*answer) if isinstance(answer, tuple) else _say(answer)


if __name__ == "__main__":
    main()
