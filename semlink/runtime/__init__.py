"""What the processes share as processes: settings, logs, listening and health. No mathematics, no torch."""
