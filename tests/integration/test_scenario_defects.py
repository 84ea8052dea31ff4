"""The bundled scenario defect-detection: its data are what they are said to be, and its network learns from them."""

from pathlib import Path

import numpy as np
import pytest
from fakes.imports import forgetting_imports

from harness.formats.user_code import call_factory, import_file

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "scenarios" / "models"
SHOWN = {"seam": "cast", "highlight": "cast", "dust": "turned", "flaw": "woven"}


@pytest.fixture(scope="module")
def defects():
    with forgetting_imports(MODELS):
        yield import_file(MODELS / "defects.py", ROOT)


@pytest.fixture(scope="module")
def drawn(defects):
    return defects.parts(1_200, 11)


def features(images):
    """What a classifier without a network might look at: brightness, contrast, the darkest and brightest pixel, and roughness."""
    rough = np.abs(np.diff(images, axis=2)).mean(axis=(1, 2, 3))
    return np.stack([images.mean((1, 2, 3)), images.std((1, 2, 3)), images.min((1, 2, 3)), images.max((1, 2, 3)), rough], axis=1)


def test_an_image_is_the_same_however_many_are_drawn_and_another_under_another_seed(defects):
    few, more, other = defects.parts(5, 3), defects.parts(9, 3), defects.parts(5, 4)
    assert np.array_equal(few.images, more.images[:5])
    assert not any(np.array_equal(one, two) for one, two in zip(few.images, other.images, strict=True))


@pytest.mark.slow
def test_the_sets_are_as_large_as_promised_balanced_and_apart(defects):
    (training, labels), (test, test_labels) = defects.train_set(), defects.test_set()
    assert (training.shape, test.shape) == ((24_000, 1, 64, 64), (4_000, 1, 64, 64))
    for images, truth in ((training, labels), (test, test_labels)):
        assert images.dtype == np.float32 and np.abs(images).max() <= 2
        assert np.bincount(truth).tolist() == [len(images) / 2] * 2
    assert len({image.tobytes() for image in (*training, *test)}) == 28_000
    assert np.array_equal(defects.calibration_set()[0], training[:512])


@pytest.mark.slow
def test_every_defect_comes_as_often_and_near_misses_tell_nothing_about_the_label(drawn, defects):
    assert {name: int((drawn.defects == name).sum()) for name in defects.DEFECTS} == dict.fromkeys(defects.DEFECTS, 200)
    assert set(drawn.defects[drawn.labels == 0]) == {"none"}
    for name in (*defects.NEAR_MISSES, *defects.SURFACES):
        where = (drawn.near_misses == name) | (drawn.surfaces == name)
        assert drawn.labels[where].mean() == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("near_miss", SHOWN)
def test_a_near_miss_can_be_seen_and_leaves_the_brightness_alone(defects, near_miss):
    changed, brighter = [], []
    for row in range(40):
        plain, shown = (defects.part(np.random.default_rng(row), SHOWN[near_miss], "none", kind) for kind in ("none", near_miss))
        changed.append(np.abs(shown - plain).max() / plain.std())
        brighter.append(shown.mean() - plain.mean())
    assert np.median(changed) > 1
    assert np.abs(np.mean(brighter)) < 0.2


@pytest.mark.slow
def test_no_threshold_on_brightness_contrast_or_roughness_tells_a_defect(drawn):
    for values in features(drawn.images).T:
        above = drawn.labels[np.argsort(values)][::-1]
        right = np.cumsum(2 * above - 1) + (above == 0).sum()  # the k highest are called defective, for every k
        assert max(right.max(), (len(above) - right).max()) / len(above) < 0.65


@pytest.mark.slow
def test_nor_do_all_of_them_together(drawn):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features(drawn.images[:600]), drawn.labels[:600])
    assert model.score(features(drawn.images[600:]), drawn.labels[600:]) < 0.65


@pytest.mark.slow
def test_a_short_training_learns_what_they_cannot_tell(defects):
    import torch

    torch.set_num_threads(1)
    with forgetting_imports(MODELS):
        args = {"width": 0.25, "depth": 0.3, "images": 2_400, "epochs": 6}
        model = call_factory("defect_detection.py:build", folder=MODELS, root=ROOT, args=args)
        images, labels = defects.test_set(400)
        with torch.inference_mode():
            answers = model(torch.from_numpy(images)).argmax(dim=1).numpy()
    assert not model.training
    assert (answers == labels).mean() > 0.75
