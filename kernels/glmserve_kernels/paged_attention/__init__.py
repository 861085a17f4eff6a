"""What the attention kernels share: how a paged cache is read, one step of softmax over it, the
reference, and how the cases' caches are made."""
