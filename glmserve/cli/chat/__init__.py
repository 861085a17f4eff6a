"""`glmserve chat`: a conversation in the terminal."""

from glmserve.cli.chat.command import add_command as add_command
