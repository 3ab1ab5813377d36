"""How a stand-in for a service talks to the test that started it: lines of JSON.

The first line says how the service is reached; then each line in is [COMMAND, ARGUMENT...] and each line out
its answer. The stand-in ends with its standard input, so that it never outlives the tests.
"""

import base64
import json
import sys


def talk(hello, **commands):
    print(json.dumps(hello), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(commands[name](*arguments)), flush=True)


def to_text(data):
    return base64.b64encode(data).decode()


def to_bytes(text):
    return base64.b64decode(text)
