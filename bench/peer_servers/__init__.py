"""The servers and engines that peers.py compares: one small file each, and what they share."""
