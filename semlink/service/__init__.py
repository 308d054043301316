"""Service: settings, logs, traces, admission, gRPC and HTTP of every process. No mathematics, no torch."""

import os

# Keeps gRPC's core from writing to standard error, for instance when a server closes a connection. It reads this
# variable when grpc is first imported, and every process imports this package before.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
