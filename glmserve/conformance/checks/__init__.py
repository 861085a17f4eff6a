"""The checks. They run only with `--glmserve-device`."""
