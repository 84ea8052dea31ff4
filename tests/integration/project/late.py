from torch.nn.functional import gelu as activation

__all__ = ["activation"]
