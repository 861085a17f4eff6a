"""Chat templates of checkpoints: Jinja programs that write a conversation as a prompt.

A template that writes what one of glmserve's own chat formats writes is served by that format. Any
other is rendered as it is, in a limited process.
"""
