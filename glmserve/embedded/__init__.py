"""The model without HTTP: the same engine, worker process and answers as `glmserve serve`."""
