"""What the processes share as processes: settings, logs, listening and health. No mathematics, no torch."""

import os

# gRPC's core writes notes of its own to standard error, such as on a server that says goodbye, which are no log
# lines of ours. It reads this when it is first imported, so it stands where every process passes before that.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
