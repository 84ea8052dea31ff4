"""An EfficientNet of five stages, trained from scratch to tell defective surfaces from sound ones.

Training is part of ``build``: the harness runs it once and keeps the trained model in its cache.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import EfficientNetConfig, EfficientNetForImageClassification
from transformers.models.efficientnet.modeling_efficientnet import round_filters


class Detector(nn.Module):
    """The network as a deployment calls it: images [N, 1, 64, 64] in, logits of sound and defective [N, 2] out.

    At width 0.5 its stages are as wide as the first five of B0, its stem and its head half as wide; the other two are left out, as an image
    of 64 pixels is 4 wide by then.
    """

    def __init__(self, width: float, depth: float, activation: str):
        super().__init__()
        config = EfficientNetConfig(
            num_channels=1,
            image_size=64,
            num_labels=2,
            width_coefficient=width,
            depth_coefficient=depth,
            in_channels=(32, 32, 48, 80, 160),
            out_channels=(32, 48, 80, 160, 224),
            kernel_sizes=(3, 3, 5, 3, 5),
            strides=(1, 2, 2, 2, 1),
            expand_ratios=(1, 4, 4, 4, 4),
            num_block_repeats=(1, 1, 2, 2, 2),
            hidden_act=activation,
            batch_norm_momentum=0.1,  # torch's share of the new batch; 0.99 is TensorFlow's share of the old ones
            dropout_rate=0.0,
            drop_connect_rate=0.0,
        )
        config.hidden_dim = round_filters(config, 1_280)
        self.network = EfficientNetForImageClassification(config)
        self.network.efficientnet.pooler = nn.AdaptiveAvgPool2d(1)  # the same mean; theirs pools with a kernel larger than the map
        for layer in self.network.modules():  # theirs is for weights that are loaded: norms start near zero, and nothing is learnt
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.ones_(layer.weight)
            elif isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")

    def forward(self, x):
        return self.network(pixel_values=x).logits


def build(width: float = 0.5, depth: float = 1.0, activation: str = "relu", images: int = 24_000, epochs: int = 3, seed: int = 0):
    """Train and return the network in eval mode."""
    from defects import train_set  # here, so that a launch of the model alone does not import scipy

    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = (torch.from_numpy(array) for array in train_set(images))
    model = Detector(width, depth, activation).to(memory_format=torch.channels_last).train()
    batch, rate = 32, 3e-3
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * (len(inputs) // batch), pct_start=0.2)
    for epoch in range(epochs):
        losses = []
        for rows in torch.randperm(len(inputs), generator=generator)[: len(inputs) // batch * batch].split(batch):
            turned = _turned(inputs[rows], generator).to(memory_format=torch.channels_last)
            loss = functional.cross_entropy(model(turned), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.3f}", flush=True)
    return model.eval().to(memory_format=torch.contiguous_format)


def student(width: float = 0.25, depth: float = 0.5, activation: str = "relu"):
    """A network of fewer and narrower layers, not trained."""
    return Detector(width, depth, activation)


def _turned(images, generator):
    """A batch turned by a multiple of 90 degrees, or its mirror image: a defect stays one."""
    quarter, mirrored = torch.randint(0, 4, (1,), generator=generator).item(), torch.randint(0, 2, (1,), generator=generator).item()
    turned = torch.rot90(images, quarter, dims=(2, 3))
    return turned.flip(3) if mirrored else turned
