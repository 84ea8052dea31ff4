import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure

pytest.importorskip("tensorflow")
from fakes.keras_lessons import outputs, tf

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def net(shop, rows):
    return shop.source("keras", rows, target="keras_nets.py:mlp")


def refused(call, *arguments, **options):
    with pytest.raises((BadInput, CannotMeasure)) as raised:
        call(*arguments, **options)
    return str(raised.value)


def test_a_factory_gives_an_artifact_that_answers_in_a_fresh_process_without_the_project(workshop, rows):
    artifact = workshop.source("keras", rows, target="keras_nets.py:own_layers")
    here = outputs(workshop, artifact, rows)
    for file in workshop.root.glob("keras_*.py"):
        file.unlink()
    assert [(spec.name, spec.dtype, spec.shape) for spec in artifact.inputs] == [("x", "float32", (None, 32))]
    assert [(spec.name, spec.shape) for spec in artifact.outputs] == [("last", (None, 4))]
    assert artifact.size_bytes == (artifact.folder / "model.keras").stat().st_size
    np.testing.assert_allclose(workshop.answers_elsewhere("tensorflow", artifact, rows), here, atol=1e-5)


def test_a_layer_that_is_registered_with_keras_opens_in_a_fresh_process(workshop, rows):
    artifact = workshop.source("keras", rows, target="keras_registered.py:halved")
    kernel, bias = tf.keras.models.load_model(artifact.path, compile=False).get_layer("last").get_weights()
    expected = rows.inputs["x"] / 2 @ kernel + bias
    np.testing.assert_allclose(workshop.answers_elsewhere("tensorflow", artifact, rows), expected, atol=1e-5)


def test_one_seed_gives_one_file_and_another_seed_another(workshop, rows, net):
    again, other = (workshop.source("keras", rows, target="keras_nets.py:mlp", seed=seed) for seed in (0, 1))
    assert again.sha256 == net.sha256 != other.sha256


def test_optimizer_state_is_left_out_of_what_a_deployment_ships(workshop, rows, net):
    artifact = workshop.source("keras", rows, target="keras_nets.py:compiled")
    assert artifact.size_bytes == pytest.approx(net.size_bytes, rel=0.02)
    with zipfile.ZipFile(artifact.path) as archive:
        assert json.loads(archive.read("config.json")).get("compile_config") is None


def test_several_inputs_go_by_name_and_outputs_stay_in_the_models_order(workshop, pairs):
    artifact = workshop.source("keras", pairs, target="keras_nets.py:two_inputs")
    assert [spec.name for spec in artifact.inputs] == ["left", "right"]
    assert [(spec.name, spec.shape) for spec in artifact.outputs] == [("zebra", (None, 4)), ("ant", (None, 2))]
    model = tf.keras.models.load_model(artifact.path, compile=False)
    expected = model([pairs.inputs["left"][:4], pairs.inputs["right"][:4]])
    for got, wanted in zip(workshop.answers("tensorflow", artifact, pairs), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_a_subclassed_model_and_one_of_keras_3_run_too(workshop, rows):
    own = workshop.source("keras", rows, target="keras_nets.py:subclassed")
    logits, doubled = workshop.answers("tensorflow", own, rows)
    np.testing.assert_allclose(doubled, 2 * logits, atol=1e-5)
    new = workshop.source("keras", rows, target="keras_nets.py:keras_3")
    assert new.steps[0].notes == ("2,762 parameters, Keras 3",)
    np.testing.assert_allclose(workshop.answers_elsewhere("tensorflow", new, rows), outputs(workshop, new, rows), atol=1e-5)


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ("no_model", "keras_nets.py:no_model returned ndarray, a Keras model is needed"),
        ("forgetful", "the model answers otherwise in 'dense"),
        ("digits", "input 'image' of the model has the shape [8, 8, 1] of one sample, the data gives [32]"),
    ],
)
def test_what_is_no_such_model_is_refused(workshop, rows, net, said):
    assert said in refused(workshop.source, "keras", rows, target=f"keras_nets.py:{net}")


def test_the_data_are_in_the_models_own_type(workshop, rows):
    wide = Dataset({"x": rows.inputs["x"].astype(np.float64)}, None)
    told = refused(workshop.source, "keras", wide, target="keras_nets.py:mlp")
    assert "input 'x' of the model is float32, the data gives float64" in told


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_saved_file_answers_as_the_model_that_was_saved(workshop, rows, net, name):
    model = tf.keras.models.load_model(net.path, compile=False)
    save(model, workshop.root / name)
    artifact = workshop.source("keras", rows, target=name)
    np.testing.assert_allclose(outputs(workshop, artifact, rows), model(rows.inputs["x"]), atol=1e-5)


def test_a_saved_file_of_keras_3_is_opened_with_keras_3(workshop, rows):
    made = workshop.source("keras", rows, target="keras_nets.py:keras_3")
    (workshop.root / "model.keras").write_bytes(made.path.read_bytes())
    artifact = workshop.source("keras", rows, target="model.keras")
    assert artifact.steps[0].notes == ("2,762 parameters, Keras 3",)
    np.testing.assert_allclose(outputs(workshop, artifact, rows), outputs(workshop, made, rows), atol=1e-6)


def save(model, path):
    from harness.formats.tensorflow_package import quiet

    with quiet():
        model.save(path)


def leaves_a_mark(x):
    from pathlib import Path as Place

    Place("mark").touch()
    return x


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_code_in_a_saved_file_is_not_run(workshop, rows, monkeypatch, name):
    monkeypatch.chdir(workshop.root)
    layers = tf.keras.layers
    model = tf.keras.Sequential([layers.Input((32,)), layers.Lambda(leaves_a_mark, name="trap"), layers.Dense(4)])
    save(model, workshop.root / name)
    Path("mark").unlink(missing_ok=True)  # the trap was called when the model was made
    told = refused(workshop.source, "keras", rows, target=name)
    assert f"layer 'trap' of {name} is a Lambda, whose code lies in the file: it is not run" in told
    assert "give the model as a factory" in told
    assert not Path("mark").exists()


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"module": "os", "class_name": "system"}, "is of the class os.system, which is not a part of Keras for models"),
        ({"module": "keras.utils", "class_name": "get_file"}, "is of the class keras.utils.get_file"),
        ({"module": "tf_keras.src.utils.data_utils", "class_name": "get_file"}, "is of the class tf_keras.src.utils.data_utils.get_file"),
        ({"module": "keras", "class_name": "get_file"}, "is of the class keras.get_file"),
        (
            {"module": "keras.layers", "class_name": "TFOpLambda", "config": {"name": "writes", "function": "io.write_file"}},
            "tf.io.write_file",
        ),
        ({"class_name": "TensorFlowOpLayer", "config": {"name": "any", "node_def": ""}}, "may hold any operator of TensorFlow"),
    ],
)
def test_a_saved_file_names_nothing_but_what_models_are_made_of(workshop, rows, net, part, said):
    path = workshop.root / "model.keras"
    with zipfile.ZipFile(net.path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    config["config"]["layers"][1]["config"]["kernel_initializer"] = part
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, "config.json": json.dumps(config)}.items():
            archive.writestr(name, content)
    assert said in refused(workshop.source, "keras", rows, target="model.keras")


@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04 cut off", b"\x89HDF\r\n\x1a\n cut off"])
def test_what_is_no_saved_model_is_refused(workshop, rows, content):
    (workshop.root / "model.keras").write_bytes(content)
    assert "model.keras is not a saved Keras model" in refused(workshop.source, "keras", rows, target="model.keras")


def test_a_saved_model_is_called_by_its_signature_and_its_files_are_what_ships(workshop, pairs):
    from harness.formats import keras_model
    from harness.formats.tensorflow_package import quiet

    made = workshop.source("keras", pairs, target="keras_nets.py:two_inputs")
    with quiet():
        keras_model.load(made).export(str(workshop.root / "exported"))
    artifact = workshop.source("saved_model", pairs, path="exported")
    assert sorted(spec.name for spec in artifact.inputs) == ["left", "right"]
    assert artifact.path.is_file() and artifact.size_bytes >= sum(values.nbytes for values in weights_of(made))
    zebra = workshop.answers("tensorflow", made, pairs)[0]
    np.testing.assert_allclose(found_of(workshop.answers("tensorflow", artifact, pairs), zebra.shape), zebra, atol=1e-5)
    compiled = workshop.answers("tensorflow", artifact, pairs, jit_compile=True)
    np.testing.assert_allclose(found_of(compiled, zebra.shape), zebra, atol=1e-5)


def weights_of(artifact):
    return tf.keras.models.load_model(artifact.path, compile=False).get_weights()


def found_of(answers, shape):
    (found,) = (answer for answer in answers if answer.shape == shape)
    return found


def test_a_saved_model_without_a_serving_signature_and_a_folder_that_is_none_are_refused(workshop, rows):
    class Bare(tf.Module):
        pass

    tf.saved_model.save(Bare(), str(workshop.root / "bare"))
    told = refused(workshop.source, "saved_model", rows, path="bare")
    assert "the SavedModel has no signature 'serving_default'" in told and "model.export()" in told
    (workshop.root / "empty").mkdir()
    assert "'empty' is no SavedModel" in refused(workshop.source, "saved_model", rows, path="empty")
    (workshop.root / "empty" / "saved_model.pb").write_bytes(b"no graph")
    assert "cannot be opened as a SavedModel" in refused(workshop.source, "saved_model", rows, path="empty")


def test_the_facts_are_the_graphs_and_threads_are_what_was_asked_for(shop, net):
    with shop.open("tensorflow", net) as session:
        assert (session.facts.precision, session.facts.threads) == ("float32", 1)
        assert session.facts.details == ("3 MatMul in float32", "tf.function")
    with shop.open("tensorflow", net, jit_compile=True) as session:
        assert session.facts.details == ("3 MatMul in float32", "compiled by XLA")
    assert "has started with other threads" in refused(lambda: shop.open("tensorflow", net, threads=2).__enter__())


def test_any_batch_size_runs_and_what_does_not_fit_is_refused(shop, net, rows):
    with shop.open("tensorflow", net) as session:
        one, many = (session.outputs(session.run(session.prepare(rows.batch(0, size))))[0] for size in (1, 7))
        np.testing.assert_allclose(one, many[:1], atol=1e-5)
        assert "the data gives float64" in refused(session.prepare, {"x": np.zeros((1, 32))})
        assert "has the shape [any, 32], the data gives [1, 31]" in refused(session.prepare, {"x": np.zeros((1, 31), np.float32)})


def test_no_plugin_of_these_takes_a_model_of_another_format():
    assert plugins.load("runtimes", "tensorflow").accepts == ("keras_model", "saved_model")
    assert plugins.load("passes", "tfmot_quantize").accepts == plugins.load("passes", "tfmot_prune_magnitude").accepts == ("keras_model",)
