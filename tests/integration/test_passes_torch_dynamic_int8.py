import numpy as np
import pytest

from harness.core.errors import CannotMeasure

torch = pytest.importorskip("torch")


@pytest.fixture(scope="session")
def quantized(shop, mlp, rows):
    return shop.apply("torch_dynamic_int8", mlp, rows)


def test_linear_layers_hold_int8_weights(shop, quantized):
    with shop.open("torch", quantized) as session:
        for layer in (session.module.hidden, session.module.head.linear):
            assert type(layer).__module__.startswith("torch.ao.nn.quantized.dynamic")
            assert layer.weight().dtype is torch.qint8
        assert session.facts.precision == "int8"
        assert session.facts.details[0] == "2 quantized Linear layers"
    assert quantized.steps[-1].notes[0] == "2 of 2 layers quantized to int8"


def test_answers_are_near_the_float_module_and_not_the_same(shop, mlp, quantized, rows):
    (expected,), (got,) = (shop.answers("torch", artifact, rows, size=40) for artifact in (mlp, quantized))
    assert 0 < np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_the_file_shrinks_to_a_quarter_of_its_weights(workshop, rows):
    wide = workshop.source("factory", rows, target="nets.py:mlp", args={"width": 2048})
    assert workshop.apply("torch_dynamic_int8", wide, rows).size_bytes < 0.35 * wide.size_bytes


def test_recurrent_layers_are_reached_and_counted(workshop, series):
    artifact = workshop.apply("torch_dynamic_int8", workshop.source("factory", series, target="nets.py:lstm"), series)
    with workshop.open("torch", artifact) as session:
        assert all(weight.dtype is torch.qint8 for weight in session.module.recurrent.get_weight().values())
        assert session.facts.precision == "int8"
        assert session.facts.details[:2] == ("1 quantized LSTM layers", "1 quantized Linear layers")


def test_only_the_kinds_of_layer_that_are_asked_for_are_replaced(workshop, series):
    module = workshop.source("factory", series, target="nets.py:lstm")
    artifact = workshop.apply("torch_dynamic_int8", module, series, layers=("LSTM",))
    with workshop.open("torch", artifact) as session:
        assert type(session.module.head) is torch.nn.Linear
        recurrent, head = 4 * 16 * (32 + 16), 16 * 10 + 10
        assert session.facts.precision == f"int8 ({recurrent / (recurrent + head):.0%}) + float32 ({head / (recurrent + head):.0%})"


def test_a_subclass_that_torch_leaves_in_float_is_named(workshop, rows):
    artifact = workshop.apply("torch_dynamic_int8", workshop.source("factory", rows, target="nets.py:partly_own"), rows)
    assert artifact.steps[-1].notes[0] == "1 of 2 layers quantized to int8; in float: 1"
    with workshop.open("torch", artifact) as session:
        assert type(session.module[1]).__name__ == "Own"


def test_convolutions_that_stay_in_float_are_told(workshop, images, cnn):
    artifact = workshop.apply("torch_dynamic_int8", cnn, images)
    assert artifact.steps[-1].notes[0] == "1 of 1 layers quantized to int8"
    assert artifact.steps[-1].notes[-1].startswith("2 convolutions left in float")


@pytest.mark.parametrize("engine", ["x86", "qnnpack"])
def test_the_engine_that_is_asked_for_is_the_one_that_runs_in_a_fresh_process(workshop, rows, mlp, engine):
    if engine not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this torch has no {engine}")
    artifact = workshop.apply("torch_dynamic_int8", mlp, rows, engine=engine)
    assert f"engine {engine}" in artifact.steps[-1].notes
    answers = {}
    for name in {"x86", "qnnpack"} & set(torch.backends.quantized.supported_engines):
        torch.backends.quantized.engine = name
        with workshop.open("torch", artifact) as session:
            assert session.facts.details[-1] == f"engine {engine}"  # whatever the process had chosen before
            answers[name] = session.outputs(session.run(session.prepare(rows.batch(0, 40))))[0]
    first, *others = answers.values()
    assert all(np.array_equal(first, other) for other in others)
    elsewhere = workshop.answers_elsewhere("torch", artifact, rows, batch_size=40)
    np.testing.assert_array_equal(elsewhere, first)


def test_equal_modules_give_equal_bytes(workshop, rows, mlp, quantized):
    assert workshop.apply("torch_dynamic_int8", mlp, rows).sha256 == quantized.sha256 != mlp.sha256


def test_what_is_quantized_already_is_refused(workshop, rows, quantized):
    with pytest.raises(CannotMeasure, match=r"already quantized \(layer 'hidden'\)"):
        workshop.apply("torch_dynamic_int8", quantized, rows)


def test_a_module_with_nothing_to_quantize_is_refused_with_what_it_has(workshop, rows):
    module = workshop.source("factory", rows, target="twins/left/net.py:build")
    with pytest.raises(CannotMeasure, match="no Linear or LSTM or GRU layer to quantize") as raised:
        workshop.apply("torch_dynamic_int8", module, rows)
    assert "it has Constant" in str(raised.value)


def test_an_engine_that_this_torch_does_not_have_is_refused_with_those_that_it_has(workshop, rows, mlp, monkeypatch):
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["x86", "onednn"])
    with pytest.raises(CannotMeasure, match="no quantization engine 'qnnpack'") as raised:
        workshop.apply("torch_dynamic_int8", mlp, rows, engine="qnnpack")
    assert "it has x86, onednn" in str(raised.value)


def test_an_encoder_of_torch_s_own_layers_takes_int8_weights_without_its_fused_kernel(workshop, series):
    module = workshop.source("factory", series, target="precision_nets.py:encoder")
    made = workshop.apply("torch_dynamic_int8", module, series)
    assert [note for note in made.steps[-1].notes if "fused kernel is off in 2 transformer encoder layers" in note]
    (expected,), (got,) = (workshop.answers("torch", artifact, series, size=40) for artifact in (module, made))
    assert 0 < np.abs(got - expected).max() < 0.05 * np.abs(expected).max()
