"""What a newcomer does: run the doctor, start the server, ask, stop.

It needs nothing but the standard library.

    python tests/e2e/first_run.py PATH_TO_GLMSERVE

Run by the gate on an installed wheel; exits non-zero with the reason if anything is off.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request


def main(command: str) -> None:
    doctor = subprocess.run([command, "doctor"], capture_output=True, text=True)
    if doctor.returncode != 0:
        sys.exit(f"glmserve doctor ended with code {doctor.returncode}: {doctor.stderr}")
    server = subprocess.Popen(
        [command, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert server.stdout is not None
    try:
        url = kernels = ""
        for line in server.stdout:
            print(line, end="")
            if match := re.search(r"URL +(http://\S+/v1)", line):
                url = match[1]
            if match := re.search(r"device .*, ([^,]+ kernels)\)", line):
                kernels = match[1]
            if line.strip().startswith("curl"):
                break
        answer = ask(url, "Hello! Who are you?")
        print(answer)
        if not answer["choices"][0]["message"]["content"].strip():
            sys.exit("the answer is empty")
        if answer["choices"][0]["finish_reason"] != "stop":
            sys.exit("the model did not stop by itself")
        if not kernels:
            sys.exit("the server does not say which kernels it computes with")
        print(f"served with {kernels}")
        server.send_signal(signal.SIGTERM)
        code = server.wait(timeout=30)
        if code != 0:
            sys.exit(f"the server ended with code {code}")
    finally:
        server.kill()


def ask(url: str, question: str) -> dict:  # type: ignore[type-arg]
    body = {
        "model": "glm-tiny",
        "temperature": 0,
        "messages": [{"role": "user", "content": question}],
    }
    request = urllib.request.Request(
        f"{url}/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)  # type: ignore[no-any-return]


if __name__ == "__main__":
    main(sys.argv[1])
