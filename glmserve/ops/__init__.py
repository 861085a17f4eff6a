"""The operations a GLM block is made of: plain torch, which a device overrides one by one."""
