"""The operations of Ascend NPUs: the vendor's where it has them, torch's elsewhere.

The vendor's are `torch.ops.npu` and `torch.ops.atb`. Nothing here imports torch_npu, which brings
them: the device does, before it makes a model.
"""
