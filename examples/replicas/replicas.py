#!/usr/bin/env python3
"""Several `nibble serve` processes behind HAProxy: one of them can be killed or restarted, and no request is lost.

    replicas.py MODEL [more options of nibble serve] [--replicas 3] [--port 8080] [--nibble PATH]

Prints the address and one line a replica with its process id, and keeps the number of replicas: one that ends is started
again. SIGHUP restarts them one after the other, each after it has finished what it was doing (for a new model file or a
new version of nibble). Ctrl-C or SIGTERM ends all of them in the same way. Needs the program haproxy.
"""
import argparse
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

SETTLE = 2  # seconds after which HAProxy's checks (500 ms apart, two of them) have found a replica that is back
HERE = pathlib.Path(__file__).resolve().parent


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Replica:
    def __init__(self, name, command):
        self.name, self.port = name, free_port()
        self.command = [*command, "--port", str(self.port)]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        print(f"{self.name}: process {self.process.pid}, port {self.port}", flush=True)

    def wait_ready(self, ending):
        while not ending.is_set() and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=2):
                    return True
            except OSError:
                time.sleep(0.1)
        return False

    def drain(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()


def configuration(address, replicas):
    lines = "\n    ".join(f"server {r.name} 127.0.0.1:{r.port}" for r in replicas)
    return (HERE / "haproxy.cfg").read_text().replace("bind ADDRESS", f"bind {address}").replace("    SERVERS", f"    {lines}")


def wait_listening(proxy, port):
    while proxy.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"replicas.py: haproxy ended with status {proxy.returncode}; is port {port} in use?")


def keep(replicas, restart, ending):
    """Until the end: what died starts again, and a restart goes through them one by one."""
    while not ending.wait(0.2):
        for replica in replicas:
            if replica.process.poll() is not None:
                print(f"{replica.name}: ended with status {replica.process.returncode}", flush=True)
                replica.start()
        if restart.is_set():
            restart.clear()
            for replica in replicas:
                replica.drain()
                replica.start()
                if not replica.wait_ready(ending) or ending.wait(SETTLE):
                    break


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=3), parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--nibble", default="nibble", help="the program")
    arguments, options = parser.parse_known_args()
    if not options:
        parser.error("which model?")
    for program in ("haproxy", arguments.nibble):
        if not shutil.which(program):
            sys.exit(f"replicas.py: there is no program {program}; on Debian: apt-get install haproxy, make build")
    ending, restart = threading.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    signal.signal(signal.SIGHUP, lambda *_: restart.set())
    replicas = [Replica(f"replica{i + 1}", [arguments.nibble, "serve", *options]) for i in range(arguments.replicas)]
    proxy = None
    try:
        if not all([r.wait_ready(ending) for r in replicas]):
            sys.exit("replicas.py: a replica did not start")
        with tempfile.TemporaryDirectory() as folder:
            port = arguments.port or free_port()
            file = pathlib.Path(folder) / "haproxy.cfg"
            file.write_text(configuration(f"127.0.0.1:{port}", replicas))
            proxy = subprocess.Popen(["haproxy", "-db", "-q", "-f", file])
            wait_listening(proxy, port)
            print(f"http://127.0.0.1:{port}", flush=True)
            keep(replicas, restart, ending)
    finally:
        for replica in replicas:
            replica.drain()
        if proxy:
            proxy.terminate()
            proxy.wait()


if __name__ == "__main__":
    main()
