"""The device contract as a pytest plugin: `pytest --glmserve-device NAME`."""
