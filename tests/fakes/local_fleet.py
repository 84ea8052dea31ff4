"""A fleet on this machine, as a plugin of the user's own: every node is a process that really measures, and one can be lost."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from harness.core.fleet import Node, NodeLost
from harness.core.plugin import Options


class Local(Options):
    """Nodes by name with their labels and cores; ``lost`` says after how many launches a node goes; ``seen`` is a file for what happens."""

    nodes: dict[str, dict[str, str]] = Field({})
    cpus: dict[str, int] = Field({})
    lost: dict[str, int] = Field({})
    seen: str

    @contextmanager
    def open(self):
        yield LocalFleet(self)


class LocalFleet:
    def __init__(self, options):
        self.options, self.dead, self.running = options, set(), []

    def nodes(self):
        alive = [name for name in self.options.nodes if name not in self.dead]
        return tuple(Node(name, name, self.options.nodes[name], self.options.cpus.get(name, 64), 0) for name in alive)

    def measure(self, order, project, node):
        process = subprocess.Popen([sys.executable, "-P", "-m", "harness.commands._on_node"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.running.append(process)
        self.tell(f"{node.name} begins")
        launches = 0
        try:
            process.stdin.write(order + project)
            process.stdin.flush()
            for line in process.stdout:
                yield line
                launches += line.count(rb"\"kind\":\"launch\"")
                if launches >= self.options.lost.get(node.name, sys.maxsize):
                    self.dead.add(node.name)
                    raise NodeLost("its power went")
            process.wait(60)
        finally:
            process.stdin.close()
            code = process.wait(60)
            self.tell(f"{node.name} ends {code}")

    def stop(self):
        for process in self.running:
            process.terminate()

    def tell(self, text):
        with Path(self.options.seen).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")


PLUGIN = Local
