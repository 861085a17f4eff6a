"""Members that are actors in a Ray cluster.

The server process does not import Ray. A process of its own, the launcher, reserves their places,
starts them, and replaces them when they die. Each is a member like any other: it dials the server.
"""
