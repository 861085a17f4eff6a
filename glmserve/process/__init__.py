"""How a process of glmserve begins and ends: its parent, its exit code, its last line."""
