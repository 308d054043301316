"""Decision: votes over several views."""
