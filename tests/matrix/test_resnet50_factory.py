"""The factories of scenarios/vision/resnet50-imagenet-shape.yaml: what a checkpoint gives, and that drawn weights are worth measuring."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def factories():
    folder = str(Path(__file__).parents[2] / "scenarios" / "models")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import resnet50

        yield resnet50
    sys.modules.pop("resnet50", None)


@torch.inference_mode()
def answers(model, images):
    return model(torch.from_numpy(images))


def test_a_checkpoint_folder_gives_its_own_answers(factories, tmp_path):
    network = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000)).eval()
    network.save_pretrained(tmp_path / "checkpoint")
    images = factories.draw_images(2, seed=1)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).logits
    torch.testing.assert_close(answers(factories.build(weights=str(tmp_path / "checkpoint")), images), expected)


def test_a_folder_that_is_not_there_is_named(factories, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint folder '.*/none'"):
        factories.build(weights=str(tmp_path / "none"))


def test_drawn_weights_are_those_of_a_resnet50_and_answer_differently_from_image_to_image(factories):
    model = factories.build()
    assert sum(parameter.numel() for parameter in model.parameters()) == 25_557_032
    images, labels = factories.test_set()
    got = answers(model, images[:16])
    assert labels is None
    assert len(set(got.argmax(dim=1).tolist())) >= 8
    assert 1 < float(got.std(dim=0).mean()) < 4
    again = answers(factories.build(), images[:2])
    torch.testing.assert_close(again, got[:2], atol=1e-3, rtol=0)


def test_no_image_is_calibrated_with_and_evaluated_on(factories):
    seen = {image.tobytes() for image in factories.calibration_set()[0]}
    assert not [image for image in factories.test_set()[0] if image.tobytes() in seen]


def test_labelled_images_are_read_from_a_file(factories, tmp_path):
    np.savez(tmp_path / "val.npz", images=factories.draw_images(3, seed=2), labels=np.array([7, 1, 999]))
    images, labels = factories.test_set(str(tmp_path / "val.npz"))
    assert images.shape == (3, 3, 224, 224) and images.dtype == np.float32
    assert labels.tolist() == [7, 1, 999]
