"""The HTTP side of the API: bodies, keys, headers, errors and event streams; built on Starlette."""
