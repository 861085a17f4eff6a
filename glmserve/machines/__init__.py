"""Machines that compute one model together: the leader's end, and the other machines' end."""
