"""RMSNorm, with the residual added first."""
