"""`glmserve doctor`: checks what this machine can serve, and advises changes."""

from glmserve.cli.doctor.command import add_command as add_command
