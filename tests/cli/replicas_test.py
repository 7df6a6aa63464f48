"""examples/replicas: clients ask all the time while one replica is killed and the others are restarted one by one; every
request is answered, with what one replica alone answers.

    replicas_test.py 'PROGRAM'
"""
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import checkpoint

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples/replicas/replicas.py"
CLIENTS, TOKENS = 8, 60


def ask(port, number, stream=False):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {"prompt": "abcdefgh"[number % 8], "max_tokens": TOKENS, "temperature": 0, "stream": stream}
    connection.request("POST", "/v1/completions", json.dumps(body))
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    assert reply.status == 200, (reply.status, text[:200])
    if not stream:
        return json.loads(text)["choices"][0]["text"]
    lines = text.decode().split("\n\n")
    assert lines[-2] == "data: [DONE]", lines[-3:]
    return "".join(json.loads(line.removeprefix("data: "))["choices"][0]["text"] for line in lines[:-2])


class Example:
    def __init__(self, program, folder):
        command = [sys.executable, EXAMPLE, folder, "--ctx", "512", "--threads", "1", "--nibble", program, "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.lines = []
        self.more = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            with self.more:
                self.lines.append(line)
                self.more.notify_all()

    def found(self, pattern, count=1):
        """The first groups of the lines like `pattern`, once there are so many."""
        matches = lambda: [m[1] for m in map(re.compile(pattern).match, self.lines) if m]
        with self.more:
            assert self.more.wait_for(lambda: len(matches()) >= count, 60), self.lines
            return matches()


def main():
    program = sys.argv[1].strip()
    if not shutil.which("haproxy"):
        print("there is no haproxy: scripts/bootstrap.sh web installs it")
        sys.exit(1 if os.environ.get("NIBBLE_NO_SKIP") else 77)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "model"
        folder.mkdir()
        checkpoint.write(folder, random.Random(3))
        example = Example(program, folder)
        try:
            port = int(example.found(r"http://127.0.0.1:(\d+)")[0])
            wanted = [ask(port, i) for i in range(8)]
            assert len(set(wanted)) > 1
            done = threading.Event()

            def client(number):
                count = 0
                while not done.is_set():
                    assert ask(port, number) == wanted[number % 8]
                    count += 1
                return count

            with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
                clients = [pool.submit(client, i) for i in range(CLIENTS)]
                time.sleep(0.5)
                os.kill(int(example.found(r"replica1: process (\d+)")[0]), signal.SIGKILL)
                example.found(r"(replica1): ended with status -9")
                example.found(r"replica1: process (\d+)", 2)
                time.sleep(2)  # longer than two checks: it is in use again
                example.process.send_signal(signal.SIGHUP)
                for replica, starts in ((1, 3), (2, 2), (3, 2)):
                    example.found(rf"replica{replica}: process (\d+)", starts)
                    assert ask(port, replica, stream=True) == wanted[replica]
                time.sleep(0.5)
                done.set()
                answered = [c.result() for c in clients]
            assert all(count > 3 for count in answered), answered
            print(f"{sum(answered)} requests answered")
            example.process.terminate()
            assert example.process.wait(60) == 0
        finally:  # it ends its replicas; killed, it could not
            example.process.terminate()
            example.process.wait()


if __name__ == "__main__":
    main()
