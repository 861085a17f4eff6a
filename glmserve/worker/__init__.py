"""The worker process: builds one Runner and executes the steps that the server sends."""
