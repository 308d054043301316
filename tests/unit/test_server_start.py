"""The server's start: told to end, it does, whatever it is about."""

import subprocess
import sys

STARTS = """
import os, signal, sys
import server.__main__ as it

class ToldToEnd:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

async def serve(settings):
    ToldToEnd()
    print("it goes on")

it.serve, sys.argv = serve, ["server"]
it.main()
"""


def test_a_server_that_is_told_to_end_while_it_starts_ends():
    done = subprocess.run([sys.executable, "-c", STARTS], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
