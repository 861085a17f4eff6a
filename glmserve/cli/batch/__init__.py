"""`glmserve batch`: answers the requests of a file, without a server or by one."""
