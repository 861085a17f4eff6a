"""The process of `glmserve doctor` that checks machine and checkpoint, without loading weights."""
