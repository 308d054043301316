"""The server as a Ray Serve application: as many replicas as it takes, on one machine or on a cluster."""
