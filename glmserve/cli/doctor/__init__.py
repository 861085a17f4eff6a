"""`glmserve doctor`: what can be served on this machine, and what to change if it cannot."""

from glmserve.cli.doctor.command import add_command as add_command
