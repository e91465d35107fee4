"""What `restore --check` needs of a QEMU: `fake_qemu.py MODE FOLDER -S -qmp ... -incoming ...`.

It takes a stream, keeps it as FOLDER/got, and answers on its monitor as MODE says.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

STATUSES = {"loads": ["inmigrate", "inmigrate", "paused"], "never": ["inmigrate"]}


def main(mode: str, folder: str, *arguments: str) -> None:
    (Path(folder) / "pid").write_text(str(os.getpid()))
    (Path(folder) / "arguments").write_text(" ".join(arguments))
    path = {
        name: arguments[arguments.index(name) + 1].removeprefix("unix:").partition(",")[0]
        for name in ("-qmp", "-incoming")
    }
    monitor, incoming = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    incoming.bind(path["-incoming"])
    incoming.listen()
    link = incoming.accept()[0]
    if mode == "ends":
        sys.exit("Size mismatch: pc.ram")
    (Path(folder) / "got").write_bytes(link.makefile("rb").read())
    monitor.bind(path["-qmp"])
    monitor.listen()
    lines = monitor.accept()[0].makefile("rw")
    statuses = iter(STATUSES.get(mode, []))
    status = ""

    def say(**fields: object) -> None:
        print(json.dumps(fields), file=lines, flush=True)

    say(QMP={})
    for line in lines:
        if mode == "mute":
            continue
        say(event="RESUME")
        if json.loads(line)["execute"] == "qmp_capabilities":
            say(**{"return": {}})
        elif mode == "refuses":
            say(error={"desc": "it does not say"})
        elif mode == "leaves":
            sys.exit("I have had enough")
        else:
            status = next(statuses, status)
            say(**{"return": {"status": status}})


if __name__ == "__main__":
    main(*sys.argv[1:])
