"""A device for glmserve."""
