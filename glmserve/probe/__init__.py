"""The process behind `glmserve doctor`: looks at machine and checkpoint, and loads nothing."""
