"""Settings of `data.degradation`: presets, single fields, and errors that name what can be set."""

import pytest
import yaml

from srflow_sdk.errors import ArgumentError
from srflow_training._degradation_settings import PRESETS, Degradation
from srflow_training._states import first_difference, without_paths
from srflow_training.settings import RunSettings, dump_settings, load_settings
from tests.training.runs import settings


def degraded(degradation=None, **data):
    return settings(data={"degradation": degradation, **data})


def test_a_preset_is_named_alone_or_with_fields_that_differ():
    for name, fields in PRESETS.items():
        by_name = load_settings("x4-small", [f"data.degradation={name}"])
        assert by_name.data.degradation == Degradation(**fields)
        changed = load_settings("x4-small", [f"data.degradation={{preset: {name}, clean: 0.25}}"])
        assert changed.data.degradation == Degradation(**{**fields, "clean": 0.25})
    assert load_settings("x4-small", ["data.degradation=photo"]).data.degradation == Degradation()
    for off in ("off", "false", "null", "''", ""):
        assert load_settings("x4-small", [f"data.degradation={off}"]) == load_settings("x4-small")


@pytest.mark.parametrize(
    ("base", "own", "expected"),
    [
        ("strong", "{clean: 0.5}", {"preset": "strong", "clean": 0.5}),
        ("{preset: strong, blur: 0.2}", "{clean: 0.5}", {"preset": "strong", "blur": 0.2, "clean": 0.5}),
        ("{preset: strong, blur: 0.2}", "{blur: }", {"preset": "strong"}),
        ("{blur: 0.2}", "{clean: 0.5}", {"blur": 0.2, "clean": 0.5}),
        ("{preset: strong, blur: 0.2}", "{preset: photo, clean: 0.5}", {"clean": 0.5}),
        ("off", "{clean: 0.5}", {"clean": 0.5}),
        ("{preset: strong, blur: 0.2}", "photo", {}),
    ],
)
def test_fields_change_what_the_base_has_and_a_preset_starts_anew(tmp_path, base, own, expected):
    (tmp_path / "base.yaml").write_text(f"base: x4-small\ndata: {{degradation: {base}}}\n")
    (tmp_path / "own.yaml").write_text(f"base: base.yaml\ndata: {{degradation: {own}}}\n")
    assert load_settings(str(tmp_path / "own.yaml")).data.degradation == Degradation(**expected)


def test_a_field_is_set_by_its_dotted_name_and_returned_to_its_presets():
    def found(*overrides):
        return load_settings("x4-small", [f"data.degradation{override}" for override in overrides]).data.degradation

    assert found("=strong", ".clean=0.2") == Degradation(preset="strong", clean=0.2)
    assert found("={preset: strong, blur: 0}", ".clean=0.2", ".quality=[20, 30]") == Degradation(
        preset="strong", blur=0, clean=0.2, quality=(20, 30)
    )
    assert found("={preset: strong, clean: 0.2}", ".clean=") == found("=strong", ".clean=") == found("=strong")
    assert found(".clean=0.2") == Degradation(clean=0.2)
    assert found(".clean=") is None
    assert found("=strong", ".preset=photo") == Degradation()
    for value in ("1", ""):
        with pytest.raises(
            ArgumentError, match=r"unknown field data\.degradation\.blurr; the fields are (preset, )?passes, "
        ):
            found("=strong", f".blurr={value}")


def test_degradation_is_saved_published_and_compared():
    strong, off = degraded("strong"), degraded()
    assert RunSettings.from_dict(yaml.safe_load(dump_settings(strong))) == strong
    assert without_paths(strong).data.degradation == strong.data.degradation
    assert first_difference(strong, off, {}).startswith("data.degradation (")
    older = yaml.safe_load(dump_settings(off))
    del older["data"]["degradation"]
    assert first_difference(RunSettings.from_dict(older), off, {}) == ""


@pytest.mark.parametrize(
    ("degradation", "message"),
    [
        ("phone", "data.degradation is 'phone': there is no preset 'phone'; the presets are off, photo, strong"),
        ("none", "there is no preset 'none'; the presets are off, photo, strong"),
        ({"preset": False}, "'off' has no fields: set data.degradation=off"),  # as YAML reads {preset: off}
        ({"preset": "off", "clean": 1}, "'off' has no fields: set data.degradation=off"),
        ({"preset": "phone"}, "there is no preset 'phone'"),
        (3, "data.degradation is 3: off, a preset"),
        ({"blurr": 1}, "unknown field data.degradation.blurr; the fields are passes, clean, direct, blur,"),
        ({"blur": 2}, "data.degradation.blur is 2"),
        ({"noise_sigma": [5, 1]}, r"data.degradation.noise_sigma is \[5, 1\]: the first number must not be above"),
        ({"noise_sigma": [0, 1]}, r"data.degradation.noise_sigma.0 is 0: input should be greater than 0"),
        ({"noise_sigma": 5}, r"data.degradation.noise_sigma is 5: two numbers \[from, to\] were expected"),
        ({"quality": [70]}, r"data.degradation.quality is \[70\]: two numbers \[from, to\] were expected"),
        (
            {"blur_sigma": [1, 2.2]},
            "blur_sigma is above 2.12, the most for passes=2: .*: lower either",
        ),
        ({"blur_sigma": [1, 2], "passes": 3}, "data.degradation.blur_sigma is above 1.73, the most for passes=3"),
        ({"resize_factor": [0.001, 1]}, "data.degradation.resize_factor.0 is 0.001: .*greater than or equal to 0.1"),
        ({"resize_factor": [1, 1000]}, "data.degradation.resize_factor.1 is 1000: .*less than or equal to 4"),
        ({"resize_factor": [1, 3], "passes": 3}, "data.degradation.resize_factor is above 2, the most for passes=3"),
        ({"quality": [50, 101]}, r"data.degradation.quality.1 is 101"),
        ({"passes": 0}, "data.degradation.passes is 0"),
    ],
)
def test_wrong_settings_are_named_in_one_line(degradation, message):
    with pytest.raises(ArgumentError, match=message) as error:
        degraded(degradation)
    assert "\n" not in str(error.value)


def test_lr_files_are_not_damaged():
    with pytest.raises(ArgumentError, match=r"data\.lr: LR files are used as they are: set data\.degradation=off"):
        degraded("photo", lr="lr")
