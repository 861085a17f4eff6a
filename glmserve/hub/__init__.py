"""Models by their names on Hugging Face or ModelScope: found on this machine, or fetched.

Finding reads the caches of both publishers' tools. It needs no package, no network, and writes
nothing. Only `fetch` writes, into the same caches, so that other programs find the files as well.
"""

from glmserve.hub.name import HubName, parse_name
from glmserve.hub.places import HubPlaces
from glmserve.hub.resolve import find, resolve

__all__ = ["HubName", "HubPlaces", "find", "parse_name", "resolve"]
