"""`srflow-export --plain`: one ONNX file from picture to picture, equal to the runtime."""

import numpy as np
import onnx
import pytest

from srflow_export import ExportOptions, export_checkpoint, plain
from srflow_export.plain import draw_as_runtime
from srflow_sdk import Bundle, Upscaler
from tests.export.running import run, run_graph, save_tiny
from tests.sdk.tiny_bundle import SCALE, hidden_files, with_manifest, write_tiny_bundle


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    provenance = {"licence": "CC0-1.0", "training_data": "two photographs | of a cat"}
    return write_tiny_bundle(
        tmp_path_factory.mktemp("plain") / "tiny.srflow",
        provenance=provenance,
    )


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """A real network, whose flow operations are model-local functions."""
    folder = tmp_path_factory.mktemp("native")
    checkpoint = save_tiny(folder / "tiny.safetensors")
    options = ExportOptions(plugins=True, inverter=False, halo=8)
    export_checkpoint(checkpoint, folder / "tiny.srflow", options)
    return folder / "tiny.srflow"


def write(bundle, folder, *arguments):
    result = run("--bundle", bundle, "--plain", "-o", folder / "plain.onnx", *arguments)
    assert result.exit_code == 0, result.output
    return onnx.load(folder / "plain.onnx")


def draw(model, lr):
    (picture,) = run_graph(model, input=lr.transpose(2, 0, 1)[None])
    return picture[0].transpose(1, 2, 0)


def picture(height, width):
    return np.random.default_rng(height).random((height, width, 3), dtype=np.float32)


def decibels(one, other):
    return -10 * np.log10(np.mean((one.astype(np.float64) - other) ** 2) + 1e-20)


def draw_by_runtime(bundle, lr, **how):
    return draw_as_runtime(Bundle.open(bundle), lr, **how)


@pytest.mark.parametrize("opset", [18, 17])
@pytest.mark.parametrize("tau", [0, 0.8])
def test_pictures_of_any_size_are_the_runtimes(native, tmp_path, tau, opset):
    model = write(native, tmp_path, "--tau", tau, "--seed", 7, "--opset", opset)
    for height, width in ((1, 1), (33, 20), (18, 47)):
        lr = picture(height, width)
        assert decibels(draw(model, lr), draw_by_runtime(native, lr, tau=tau, seed=7)) > 60
    assert decibels(draw(model, lr), draw_by_runtime(native, lr, tau=tau, seed=8)) < 40 or tau == 0


@pytest.mark.parametrize("opset", [18, 17])
def test_gray_stays_gray_and_faint_colours_faint(native, tmp_path, opset):
    model = write(native, tmp_path, "--tau", 0.8, "--opset", opset)
    gray = picture(18, 23)[..., :1].repeat(3, axis=2)
    large = draw(model, gray)
    assert np.ptp(large, axis=2).max() == 0
    assert np.ptp(large) > 0.5
    with Upscaler(native, device="cpu", tile=None) as upscaler:
        for lr in (gray, 0.9 * gray + 0.1 * picture(18, 23)):
            assert decibels(draw(model, lr), upscaler.upscale(lr, tau=0.8)) > 60


@pytest.mark.parametrize("tau", [0, 0.8])
def test_a_smoothed_models_picture_is_smoothed(native, tmp_path, tau):
    smoothed = with_manifest(native, tmp_path / "smoothed.srflow", smoothed=True)
    model = write(smoothed, tmp_path, "--tau", tau, "--opset", 17)
    lr = picture(18, 23)
    with Upscaler(smoothed, device="cpu", tile=None) as upscaler:
        assert decibels(draw(model, lr), upscaler.upscale(lr, tau=tau)) > 60
    is_smoothed = decibels(draw(model, lr), draw_by_runtime(native, lr, tau=tau)) < 50
    assert is_smoothed == (tau > 0)


def test_standard_operators_alone(native, tmp_path):
    for opset in (17, 18):
        model = write(native, tmp_path, "--opset", opset)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
        assert {node.domain for node in model.graph.node} == {""}
        assert not model.functions
        splits = [node for node in model.graph.node if node.op_type == "Split"]
        assert splits
        assert all(
            bool(node.attribute[-1].name == "num_outputs") == (opset == 18) for node in splits
        )
    assert [value.name for value in model.graph.input] == ["input"]
    assert [value.name for value in model.graph.output] == ["output"]


def test_beyond_the_window_its_latents_repeat(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "WINDOW", 16)
    monkeypatch.setattr(plain, "_PATCH", (15, 13))
    model = write(tiny, tmp_path, "--tau", 0.8)
    flat = np.full((48, 40, 3), 0.5, np.float32)
    large = draw(model, flat)
    period = SCALE * 16
    # away from the border
    inside = large[period // 2 : period // 2 + 8, period // 2 : period // 2 + 8]
    again = large[period // 2 + period : period // 2 + period + 8, period // 2 : period // 2 + 8]
    assert np.abs(inside - again).max() < 1e-5
    assert np.ptp(inside) > 0.01
    assert decibels(large, draw_by_runtime(tiny, flat, tau=0.8)) < 60


def test_without_tau_the_file_has_no_window_to_leave(tiny, tmp_path):
    model = write(tiny, tmp_path, "--tau", 0)
    assert len(model.SerializeToString()) < 50_000
    lr = picture(300, 6)
    assert decibels(draw(model, lr), draw_by_runtime(tiny, lr, tau=0)) > 80


def test_a_fixed_size_has_no_shapes_to_compute(tiny, tmp_path):
    model = write(tiny, tmp_path, "--size", 17)
    shapes = [
        [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [[1, 3, 17, 17], [1, 3, 17 * SCALE, 17 * SCALE]]
    assert not {"Shape", "Range", "Gather", "Mod"} & {node.op_type for node in model.graph.node}
    lr = picture(17, 17)
    assert decibels(draw(model, lr), draw_by_runtime(tiny, lr, tau=0.8)) > 60


def test_pictures_in_half(tiny, tmp_path):
    half = picture(9, 12).astype(np.float16)
    found = draw(write(tiny, tmp_path, "--io", "float16"), half)
    assert found.dtype == np.float16
    assert decibels(found, draw_by_runtime(tiny, half.astype(np.float32), tau=0.8)) > 60


def test_slices_with_steps_become_pools_of_the_same_values(tmp_path):
    graph = onnx.parser.parse_graph(
        "g (float[1, 1, 5, 7] x) => (float[1, 1, 5, 3] y) <int64[1] start = {0}, int64[1] end = "
        "{9223372036854775807}, int64[1] axis = {3}, int64[1] step = {3}> "
        "{ y = Slice(x, start, end, axis, step) }"
    )
    plain._rewrite(graph, 18)
    assert graph.node[0].op_type == "MaxPool"
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=8,
    )
    x = np.random.default_rng(0).normal(size=(1, 1, 5, 7)).astype(np.float32)
    (y,) = run_graph(model, x=x)
    assert np.array_equal(y, x[..., ::3])


def test_the_command_in_the_metadata_writes_the_file_again(tmp_path):
    choices = ("--tau", 0.1, "--seed", 3, "--size", 18, "--io", "float16", "--opset", 17)
    (made_by,) = (
        entry.value
        for entry in write("x4-small", tmp_path, *choices).metadata_props
        if entry.key == "srflow.made_by"
    )
    by, _, command = made_by.partition(": srflow-export ")
    assert by.startswith("srflow-sdk ")
    assert run(*command.split(), "-o", tmp_path / "again.onnx").exit_code == 0
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "plain.onnx").read_bytes()


def test_a_checkpoints_plain_file_stands_beside_its_bundle(tmp_path):
    how = ("--no-inverter", "--halo", 8, "--plain", "--tau", 0.5, "-o", tmp_path / "m.srflow")
    result = run(save_tiny(tmp_path / "tiny.safetensors"), *how)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "m.srflow",
        "plain.onnx",
        "tiny.safetensors",
    ]
    assert f"wrote {tmp_path / 'plain.onnx'}: tau 0.5, " in result.output
    assert Bundle.open(tmp_path / "m.srflow").manifest.default_tau == 0.5


def test_another_picture_than_the_runtimes_leaves_nothing(tiny, tmp_path, monkeypatch):
    whole = plain._Surroundings._latents

    def others(self, side):
        return {level: -values for level, values in whole(self, side).items()}

    monkeypatch.setattr(plain._Surroundings, "_latents", others)
    result = run("--bundle", tiny, "--plain", "-o", tmp_path / "plain.onnx")
    assert result.exit_code == 1
    assert "is not written: its picture is" in result.output
    assert not list(tmp_path.iterdir())


def test_folders_are_made_and_what_a_killed_export_left_is_removed(tiny, tmp_path):
    folder = tmp_path / "new" / "folder"
    write(tiny, folder)
    (folder / ".plain.onnx.0123abcd.part").write_bytes(b"half")
    write(tiny, folder, "--seed", 1)
    assert [path.name for path in folder.iterdir()] == ["plain.onnx"]


def test_the_commands_own_check_draws_a_gray_picture_too(tmp_path, monkeypatch):
    # which changes no ordinary photograph
    monkeypatch.setattr(plain._Surroundings, "_bound_colours", lambda _, picture: picture)
    result = run("--bundle", "x4-small", "--plain", "-o", tmp_path / "plain.onnx")
    assert (result.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert "is not written: its picture is 4" in result.output


def test_a_file_that_cannot_be_written_leaves_nothing(tiny, tmp_path):
    (tmp_path / "plain.onnx").mkdir()
    result = run("--bundle", tiny, "--plain", "-o", tmp_path / "plain.onnx")
    assert result.exit_code == 1
    assert "plain.onnx: the file cannot be written: Is a directory" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["plain.onnx"]
    assert not hidden_files(tmp_path)
