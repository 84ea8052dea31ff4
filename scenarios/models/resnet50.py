"""ResNet-50 (25.6 million parameters) at 224 x 224, with the weights of a checkpoint, or drawn ones where there is none.

Weights come from a folder or a hub id that transformers' ``from_pretrained`` takes (``microsoft/resnet-50``). Without, they are drawn from
a seed, and the batch norms and the last layer are set by drawn images: activations have the spread of a trained network's, and answers
differ from image to image. Such a network recognises nothing: there are no labels, so no accuracy; how near a recipe stays to the float
network is told by ``output_cosine`` and ``agreement``.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification

SIDE = 224
CLASSES = 1000
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training images, by channel, where pixels are 0 to 1."""
GRAINS = (4, 16, 56, 224)
"""Sides of the random fields that an image is the sum of: coarse ones weigh more, as in photographs."""


class Classifier(nn.Module):
    """The network as a deployment calls it: images [N, 3, 224, 224] in, logits [N, 1000] out."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(pixel_values=x).logits


def build(weights: str | None = None, seed: int = 0, branch: float = 0.25):
    """The checkpoint ``weights`` (a folder or a hub id), else drawn weights.

    ``branch`` is what the last norm of each residual branch multiplies by, where weights are drawn. With 1 they double every rounding error
    from block to block, as trained ones do not, and int8 answers have little to do with the float ones.
    """
    if weights is not None:
        folder = Path(weights).expanduser()
        if weights.startswith(("/", ".", "~")) and not folder.is_dir():
            raise FileNotFoundError(f"there is no checkpoint folder '{weights}'")
        network = ResNetForImageClassification.from_pretrained(folder if folder.is_dir() else weights)
        if network.config.num_channels != 3:
            raise ValueError(f"the checkpoint '{weights}' takes {network.config.num_channels} channels, and these images have 3")
        return Classifier(network.eval())
    torch.manual_seed(seed)
    model = Classifier(ResNetForImageClassification(ResNetConfig(num_labels=CLASSES)))
    for name, parameter in model.named_parameters():
        if name.endswith("layer.2.normalization.weight"):
            nn.init.constant_(parameter, branch)
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    images = torch.from_numpy(draw_images(32, seed=[seed, 0]))
    with torch.no_grad():
        for norm in norms:
            norm.momentum = None  # the mean over all batches
        model.train()
        for batch in images.split(16):
            model(batch)
        for norm in norms:
            norm.momentum = 0.1
        model.eval()
        logits = torch.cat([model(batch) for batch in images.split(16)])
        head, spread = model.network.classifier[-1], logits.std(dim=0).mean() / 2  # those of a trained network spread by 2 to 3
        head.bias.copy_((head.bias - logits.mean(dim=0)) / spread)
        head.weight /= spread
    return model


def draw_images(count: int, seed):
    """Images [count, 3, 224, 224] float32, normalised: sums of coarse and fine random fields, the channels alike but not equal."""
    generator = np.random.default_rng(seed)
    total = np.zeros((count, 3, SIDE, SIDE), np.float32)
    for grain in GRAINS:
        grey, colour = (generator.standard_normal((count, channels, grain, grain), dtype=np.float32) for channels in (1, 3))
        field = torch.from_numpy(grey + 0.4 * colour)
        weight = generator.uniform(0.2, 1.8, (count, 1, 1, 1)).astype(np.float32) * grain**-0.25
        total += functional.interpolate(field, size=(SIDE, SIDE), mode="bilinear", align_corners=False).numpy() * weight
    colour = generator.uniform(0.25, 0.65, (count, 3, 1, 1)).astype(np.float32)
    pixels = np.clip(colour + 0.2 * total, 0, 1)
    return (pixels - np.array(MEAN, np.float32)[:, None, None]) / np.array(SPREAD, np.float32)[:, None, None]


def test_set(images: str | None = None):
    """64 drawn images without labels; or those of ``images``, an .npz file with ``images`` [N, 3, 224, 224] and ``labels`` [N]."""
    if images is None:
        return draw_images(64, seed=[20_230, 1]), None
    with np.load(images) as given:
        return given["images"].astype(np.float32), given["labels"].astype(np.int64)


def calibration_set(images: str | None = None):
    """128 drawn images, none of which is evaluated on. They take ranges for any weights: ``images`` is for the evaluation alone."""
    return draw_images(128, seed=[20_230, 2]), None
