"""Ray Serve cluster: replicas of the server behind one ingress, on one machine or several."""
