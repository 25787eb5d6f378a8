"""A run's settings: every preset, every variant, and errors that name the field."""

import re

import pytest
import yaml
from click.testing import CliRunner

from srflow_sdk.errors import ArgumentError
from srflow_training._states import without_paths
from srflow_training.cli import train
from srflow_training.model import SRFlowConfig
from srflow_training.model.config import ENCODER_FIELDS
from srflow_training.settings import (
    RunSettings,
    dump_settings,
    load_settings,
    preset_names,
)

FLOWS = [
    "x4-general",
    "x8-general",
    "x8-faces",
    *("x2-small", "x4-small", "x8-small", "x16-small", "x4-photo"),
]
PUBLISHED = ["published-x4", "published-x8", "published-x8-faces", "paper-x4", "paper-x8", "paper-x8-faces"]


def test_the_presets_are_those_that_the_help_names():
    assert set(preset_names()) == {*FLOWS, *PUBLISHED}
    told = CliRunner().invoke(train, ["--help"]).output
    assert all(re.search(rf"(?<![\w-]){name}(?![\w-])", told) for name in preset_names())


@pytest.mark.parametrize(
    ("name", "scale", "blocks", "stacked", "batch", "rate"),
    [
        ("published-x4", 4, 23, (1, 8, 15, 22), 12, 2.5e-4),
        ("published-x8", 8, 23, (1, 3, 5, 7), 16, 5e-4),
        ("published-x8-faces", 8, 8, (1, 3, 5, 7), 16, 5e-4),
    ],
)
def test_published_presets_have_nothing_of_ours(name, scale, blocks, stacked, batch, rate):
    settings = load_settings(name, ["schedule.encoder=rrdb.pth"])
    config, data, schedule = settings.config(), settings.data, settings.schedule
    assert config == SRFlowConfig.of_variant("published", scale=scale, blocks=blocks)
    assert (config.variant, config.steps, config.stacked_blocks) == ("published", 16, stacked)
    assert (data.crop, data.batch, data.transposes, data.choose_of) == (160, batch, False, 1)
    assert (data.flip, settings.hardware.precision) == ("horizontal", "fp32")  # no face stands on its head
    assert (data.widest, data.narrowest, data.hr_shift, data.late_crop, data.reduction) == (0, 0, 0, 0, "bicubic")
    assert (schedule.learning_rate, schedule.betas, schedule.decay, schedule.warmup) == (rate, (0.9, 0.999), "steps", 0)
    assert (schedule.clip_norm, schedule.ema, schedule.iterations, schedule.freeze_encoder) == (0, 0, 200_000, 0.5)
    assert (settings.objective.noise, settings.objective.l1) == (pytest.approx(4 / 3**0.5), 0)


@pytest.mark.parametrize(
    ("name", "scale", "blocks", "stacked"),
    [("x4", 4, 23, (2, 7, 12, 17, 22)), ("x8", 8, 23, (2, 7, 12, 17, 22)), ("x8-faces", 8, 8, (3, 4, 5, 6, 7))],
)
def test_a_preset_of_the_text_is_the_released_one_with_the_texts_network_and_rate(name, scale, blocks, stacked):
    settings, released = load_settings(f"paper-{name}"), load_settings(f"published-{name}")
    assert settings.config() == SRFlowConfig.of_variant("paper", scale=scale, blocks=blocks)
    assert settings.config().stacked_blocks == stacked
    assert (settings.data, settings.objective) == (released.data, released.objective)
    assert settings.schedule == released.schedule.model_copy(update={"learning_rate": 5e-4})


@pytest.mark.parametrize(("name", "levels"), [("published-x8-faces", 4), ("paper-x8-faces", 5), ("x8-faces", 5)])
def test_faces_are_enlarged_16_times_by_one_setting(name, levels):
    settings = load_settings(name, ["network.scale=16"])
    assert (settings.config().levels, settings.config().variant) == (levels, load_settings(name).config().variant)
    assert settings.data.crop % (16 * settings.config().size_multiple) == 0


def test_only_photographs_are_turned_upside_down():
    assert load_settings("x4-general").data.flip == "both"
    for name in ("x8-faces", *PUBLISHED):
        assert load_settings(name).data.flip == "horizontal"


@pytest.mark.parametrize("name", [*FLOWS, *PUBLISHED])
def test_the_encoder_of_a_flow_is_a_stage_of_its_preset(name):
    encoder, flow = load_settings(name, stage="encoder"), load_settings(name)
    assert encoder.kind == flow.config().encoder
    for field in ENCODER_FIELDS[encoder.kind]:
        assert getattr(encoder.config(), field) == getattr(flow.config(), field)
    assert (encoder.data.hr_shift, encoder.objective.noise) == (0, 0)
    assert encoder.data.degradation == flow.data.degradation
    assert encoder.schedule.iterations == (
        200_000 if encoder.kind == "rrdb" else 150_000 if name == "x4-small" else 60_000
    )


def test_what_a_stage_sets_is_its_own_and_overrides_come_last(tmp_path):
    text = "base: x4-small\nencoder_data: {batch: 3}\nencoder_schedule: {warmup: 7}\n"
    (tmp_path / "run.yaml").write_text(text)
    encoder = load_settings(str(tmp_path / "run.yaml"), ["data.crop=64", "network.blocks=2"], stage="encoder")
    assert (encoder.data.batch, encoder.data.crop, encoder.data.choose_of) == (3, 64, 3)
    assert (encoder.schedule.warmup, encoder.schedule.decay, encoder.config().blocks) == (7, "cosine", 2)
    assert load_settings(str(tmp_path / "run.yaml")) == load_settings("x4-small")
    (tmp_path / "saved.yaml").write_text(dump_settings(encoder))
    assert load_settings(str(tmp_path / "saved.yaml"), stage="encoder") == encoder


def test_a_file_takes_what_it_does_not_set_from_its_base(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: x4-small\nnetwork: {hidden: 48}\nschedule:\nobjective: {l1: 1}\n")
    (tmp_path / "longer.yaml").write_text("base: mine.yaml\nschedule: {iterations: 9000}\n")
    found = load_settings(str(tmp_path / "longer.yaml"), ["network.steps=4"])
    overrides = ["network.hidden=48", "objective.l1=1", "schedule.iterations=9000", "network.steps=4"]
    assert found == load_settings("x4-small", overrides)


@pytest.mark.parametrize(
    ("base", "message"),
    [("run.yaml", "based on this file itself"), ("x5", "base: no configuration .*x4-small"), ("3", "base is 3")],
)
def test_a_base_that_cannot_be_is_refused(tmp_path, base, message):
    (tmp_path / "run.yaml").write_text(f"base: {base}\n")
    with pytest.raises(ArgumentError, match=message):
        load_settings(str(tmp_path / "run.yaml"))


def test_a_base_that_comes_back_by_another_path_is_refused(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "self.yaml").write_text("base: ../sub/self.yaml\n")
    (tmp_path / "one.yaml").write_text("base: sub/../two.yaml\n")
    (tmp_path / "two.yaml").symlink_to(tmp_path / "one.yaml")
    for name in ("sub/self.yaml", "one.yaml"):
        with pytest.raises(ArgumentError, match="based on this file itself"):
            load_settings(str(tmp_path / name))


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("variant", ["bounded", "paper", "published"])
def test_every_preset_has_every_variant(name, variant):
    settings = load_settings(name, [f"network.variant={variant}"])
    assert settings.config().variant == variant
    assert settings.config().scale == int(name[1 : name.index("-")])


@pytest.mark.parametrize("stage", ["flow", "encoder"])
def test_a_preset_builds(stage):
    load_settings("x4-small", stage=stage).build()


def test_our_networks_stack_equally_spaced_blocks_and_published_ones_their_own():
    for name in ("x4-general", "x8-general"):
        assert load_settings(name).config().stacked_blocks == (1, 8, 15, 22)
    assert load_settings("x8-general", ["network.variant=published"]).config().stacked_blocks == (1, 3, 5, 7)
    assert load_settings("x8-faces").config().stacked_blocks == (1, 3, 5, 7)


def test_a_saved_run_keeps_its_stacked_blocks():
    settings = load_settings("x8-general")
    raw = yaml.safe_load(dump_settings(settings))
    assert raw["network"]["stacked_blocks"] == [1, 8, 15, 22]
    assert RunSettings.from_dict(raw) == settings


def test_the_published_schedule():
    schedule = load_settings("x8-general", ["schedule.encoder=rrdb.pth"]).schedule
    assert schedule.iterations == 200_000
    assert schedule.freeze_encoder == 0.5
    rates = [schedule.learning_rate_at(int(share * 200_000)) for share in (0, 0.499, 0.5, 0.75, 0.9, 0.95)]
    assert rates == pytest.approx([5e-4, 5e-4, 2.5e-4, 1.25e-4, 6.25e-5, 3.125e-5])


def test_without_an_encoder_a_run_is_longer_and_nothing_is_frozen():
    schedule = load_settings("x8-general").schedule
    assert (schedule.iterations, schedule.freeze_encoder) == (300_000, 0)


def test_the_rate_rises_in_the_warmup():
    schedule = load_settings("x4-small", ["schedule.warmup=4", "schedule.learning_rate=1e-3"]).schedule
    assert [schedule.learning_rate_at(i) for i in (0, 4, 5)] == pytest.approx([2e-4, 1e-3, 1e-3])


def test_late_crops_cost_the_same():
    data = load_settings("x4-small", ["data.crop=80", "data.batch=8", "data.late_crop=160", "data.late_share=0.2"]).data
    assert data.at(0.79) == (80, 8)
    assert data.at(0.8) == (160, 2)


def test_resolved_settings_are_settings(tmp_path):
    settings = load_settings("x4-small", ["schedule.seed=7"])
    (tmp_path / "config.yaml").write_text(dump_settings(settings))
    assert load_settings(str(tmp_path / "config.yaml")) == settings
    assert yaml.safe_load(dump_settings(settings))["schedule"]["ema"] == 0.999


@pytest.mark.parametrize("written", ["off", '""', "'off'", "false"])
def test_the_cache_is_switched_off_as_yaml_and_older_files_say_it(tmp_path, written):
    settings = load_settings("x4-small", [f"data.cache={written}"])
    assert settings.data.cache == "off"
    (tmp_path / "config.yaml").write_text(dump_settings(settings))
    assert load_settings(str(tmp_path / "config.yaml")) == settings


def test_what_is_handed_on_with_a_model_says_nothing_of_the_machine():
    overrides = ["schedule.encoder=/home/me/rrdb.pth", "data.cache=/scratch/me", "hardware.devices=2"]
    settings = without_paths(load_settings("x4-small", overrides))
    assert settings.schedule.encoder == "rrdb.pth"
    assert "/" not in dump_settings(settings)
    assert settings.hardware.devices == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("schedule.iteration=3", "unknown field schedule.iteration; the fields are iterations, "),
        ("schedul.iterations=3", "unknown field schedul; the fields are network, data, "),
        ("data.batch=many", "data.batch is 'many'"),
        ("data.batch=0", "data.batch is 0"),
        ("data.crop=20", "data.crop is 20.*multiples of 8"),
        ("data.late_crop=20", "data.late_crop is 20.*multiples of 8"),
        ("data.scale=8", "unknown field data.scale"),
        ("data.reduction=nearest", "data.reduction is 'nearest'"),
        ("data.lr=folder", "data.lr: .*widest"),
        ("data.teacher=folder", "data.teacher is for LR encoders"),
        ("network.kind=gan", "network.kind is 'gan'"),
        ("network.variant=newest", "variant is 'newest'"),
        ("network.nf=abc", "nf is 'abc'"),
        ("network.nf=8.5", "nf is 8.5"),
        ("network.scale=four", "scale is 'four'"),
        ("network.levels=null", "levels is None"),
        ("network.blocks=2.5", "blocks is 2.5"),
        ("network.split_clamp=tight", "split_clamp is 'tight'"),
        ("network.clamp=.inf", "clamp and split_clamp must be positive and finite"),
        ("network.scale=5", "×2, ×4, ×8 or ×16"),
        ("network.step=3", "unknown field 'step'.*[a-z]$"),
        ("schedule.learning_rate=-1", "schedule.learning_rate is -1"),
        ("schedule.learning_rate=.nan", "schedule.learning_rate is nan"),
        ("schedule.iterations=2.5", "schedule.iterations is 2.5"),
        ("schedule.betas=[1,2,3]", "schedule.betas is"),
        ("schedule.betas=[0.9,1]", "schedule.betas.1 is 1"),
        ("schedule.encoder=3", "schedule.encoder is 3"),
        ("schedule.seed=-1", "schedule.seed is -1"),
        ("hardware.precision=fp8", "hardware.precision is 'fp8'"),
        ("hardware.devices=3", "not a multiple of the 3 devices"),
        ("iterations=3", "section.field=value"),
    ],
)
def test_wrong_settings_name_the_field(override, message):
    with pytest.raises(ArgumentError, match=message):
        load_settings("x4-small", [override])


@pytest.mark.parametrize("half", ["data.teacher=pictures", "objective.teacher=0.5"])
def test_a_teacher_needs_pictures_and_a_share_of_the_loss(half):
    with pytest.raises(ArgumentError, match="set both"):
        load_settings("x4-small", [half], stage="encoder")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network.blocks=2", r"the encoder has blocks 0 … 1: --set network\.stacked_blocks= chooses them"),
        ("network.unshuffle=3", "network: unshuffle is 3; it must be 1, 2 or 4"),
    ],
)
def test_wrong_settings_of_an_rrdb_name_the_field(override, message):
    with pytest.raises(ArgumentError, match=message):
        load_settings("x4-general", ["network.stacked_blocks=[10]", override])


@pytest.mark.parametrize(
    ("stage", "unshuffle", "multiple"),
    [("encoder", 1, 4), ("encoder", 2, 8), ("encoder", 4, 16), ("flow", 1, 8), ("flow", 4, 16)],
)
def test_crops_are_whole_cells_of_an_unshuffled_encoder(stage, unshuffle, multiple):
    small = ["network.nf=8", "network.blocks=2", *["network.stacked_blocks=[1]"][: stage == "flow"]]
    overrides = [*small, f"network.unshuffle={unshuffle}", "data.crop=96"]
    settings = load_settings("x4-general", overrides, stage=stage)
    assert settings.crop_multiple == multiple
    model = settings.build()
    assert (model if settings.kind == "rrdb" else model.encoder).unshuffle == unshuffle
    with pytest.raises(ArgumentError, match=f"data.crop is {96 + multiple // 2}.*multiples of {multiple}"):
        load_settings("x4-general", [*overrides, f"data.crop={96 + multiple // 2}"], stage=stage)


def test_an_encoder_has_no_field_of_a_flow():
    with pytest.raises(ArgumentError, match=r"unknown field network\.hidden"):
        load_settings("x4-general", ["network.hidden=3"], stage="encoder")


def test_an_encoder_is_trained_on_a_clean_target_unless_told_otherwise():
    minimal = {"network": {"kind": "rrdb"}, "data": {"crop": 16, "batch": 1}}
    assert RunSettings.from_dict(minimal).objective.noise == 0
    assert RunSettings.from_dict({**minimal, "objective": {"noise": 1}}).objective.noise == 1


def test_a_number_may_be_written_without_a_point():
    assert load_settings("x4-small", ["schedule.learning_rate=1e-3"]).schedule.learning_rate == 1e-3
    assert load_settings("x4-small", ["network.clamp=5e-1"]).config().clamp == 0.5


def test_a_field_is_cleared_by_an_override_without_a_value():
    overrides = ["schedule.encoder=rrdb.pth", "schedule.learning_rate=1e-3", "network.hidden=48"]
    cleared = ["schedule.encoder=", "schedule.learning_rate=", "network.hidden=", "schedule.iterations="]
    settings = load_settings("x4-small", [*overrides, *cleared, "schedule.warmup="])
    assert (settings.schedule.encoder, settings.schedule.learning_rate, settings.schedule.warmup) == ("", 5e-4, 0)
    assert settings.schedule.iterations == 300_000  # from scratch
    assert settings.config().hidden == 64
    with pytest.raises(ArgumentError, match=r"data\.crop is missing"):
        load_settings("x4-small", ["data.crop="])
    with pytest.raises(ArgumentError, match=r"unknown field schedule\.encode; the fields are iterations, "):
        load_settings("x4-small", ["schedule.encode="])
    with pytest.raises(ArgumentError, match="unknown field schedul; the fields are network, "):
        load_settings("x4-small", ["schedul.encoder="])


def test_a_null_in_a_file_returns_a_field_to_its_default_and_not_the_bases(tmp_path):
    own = "base: x4-small\nnetwork: {condition_kernel: , hidden: null}\ndata: {choose_of: }\nschedule: {ema: }\n"
    (tmp_path / "own.yaml").write_text(own)
    cleared = ["network.condition_kernel=", "network.hidden=", "data.choose_of=", "schedule.ema="]
    assert load_settings(str(tmp_path / "own.yaml")) == load_settings("x4-small", cleared)
    assert load_settings("x4-small", cleared) != load_settings("x4-small")
    (tmp_path / "own.yaml").write_text("base: x4-small\nnetwork: {split_clamp: null}\n")
    assert load_settings(str(tmp_path / "own.yaml")).config().split_clamp is None
    for content, message in [("crop: ", r"data\.crop is missing"), ("cropp: ", r"unknown field data\.cropp")]:
        (tmp_path / "own.yaml").write_text(f"base: x4-small\ndata: {{{content}}}\n")
        with pytest.raises(ArgumentError, match=message):
            load_settings(str(tmp_path / "own.yaml"))


@pytest.mark.parametrize(
    "content", [b"schedule: 3", b"network: [1]", b"\xff\xfe\x00", b"- 1", b"a: [", b"data: {crop: 8}"]
)
def test_files_that_are_no_settings_are_refused(tmp_path, content):
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(ArgumentError):
        load_settings(str(tmp_path / "run.yaml"))
