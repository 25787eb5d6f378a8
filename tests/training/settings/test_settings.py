"""A run's settings: every preset, every variant, and errors of one line that name field and
reason."""

import itertools

import pytest
import yaml

from srflow_sdk.errors import ArgumentError
from srflow_training.model import SRFlowConfig
from srflow_training.model.config import ENCODER_FIELDS
from srflow_training.presets import load_settings, preset_names
from srflow_training.settings import DEGRADATIONS, Degradation, RunSettings, dump_settings
from srflow_training.states import first_difference, without_paths
from tests.training.runs import settings as tiny_settings

# Presets


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
    config = settings.config()
    data = settings.data
    schedule = settings.schedule
    assert config == SRFlowConfig.of_variant("published", scale=scale, blocks=blocks)
    assert (config.variant, config.steps, config.stacked_blocks) == ("published", 16, stacked)
    assert (data.crop, data.batch, data.transposes, data.choose_of) == (160, batch, False, 1)
    # no face stands on its head
    assert (data.flip, settings.hardware.precision) == ("horizontal", "fp32")
    assert (data.widest, data.narrowest, data.hr_shift, data.reduction) == (0, 0, 0, "bicubic")
    assert (schedule.learning_rate, schedule.betas, schedule.decay, schedule.warmup) == (
        rate,
        (0.9, 0.999),
        "steps",
        0,
    )
    assert (schedule.clip_norm, schedule.ema, schedule.iterations, schedule.freeze_encoder) == (
        0,
        0,
        200_000,
        0.5,
    )
    assert (settings.objective.noise, settings.objective.l1) == (pytest.approx(4 / 3**0.5), 0)


@pytest.mark.parametrize(
    ("name", "scale", "blocks", "stacked"),
    [
        ("x4", 4, 23, (2, 7, 12, 17, 22)),
        ("x8", 8, 23, (2, 7, 12, 17, 22)),
        ("x8-faces", 8, 8, (3, 4, 5, 6, 7)),
    ],
)
def test_a_preset_of_the_text_is_the_released_one_with_the_texts_network_and_rate(
    name,
    scale,
    blocks,
    stacked,
):
    settings = load_settings(f"paper-{name}")
    released = load_settings(f"published-{name}")
    assert settings.config() == SRFlowConfig.of_variant("paper", scale=scale, blocks=blocks)
    assert (settings.config().stacked_blocks, settings.config().hidden) == (stacked, 64)
    assert (settings.data, settings.objective) == (released.data, released.objective)
    assert settings.schedule == released.schedule.model_copy(update={"learning_rate": 5e-4})


@pytest.mark.parametrize("name", preset_names())
def test_the_encoder_of_a_flow_is_a_stage_of_its_preset(name):
    encoder = load_settings(name, stage="encoder")
    flow = load_settings(name)
    assert encoder.kind == flow.config().encoder
    for field in ENCODER_FIELDS[encoder.kind]:
        assert getattr(encoder.config(), field) == getattr(flow.config(), field)
    assert (encoder.data.hr_shift, encoder.objective.noise) == (0, 0)
    assert encoder.data.degradation == flow.data.degradation
    small = 150_000 if name == "x4-small" else 60_000
    assert encoder.schedule.iterations == (200_000 if encoder.kind == "rrdb" else small)


def test_our_networks_stack_equally_spaced_blocks_and_published_ones_their_own():
    for name, variant, blocks in (
        ("x4-general", "bounded", (1, 8, 15, 22)),
        ("x8-general", "bounded", (1, 8, 15, 22)),
        ("x8-general", "published", (1, 3, 5, 7)),
        ("x8-faces", "bounded", (1, 3, 5, 7)),
    ):
        settings = load_settings(name, [f"network.variant={variant}"])
        raw = yaml.safe_load(dump_settings(settings))
        assert tuple(raw["network"]["stacked_blocks"]) == settings.config().stacked_blocks == blocks
        assert RunSettings.from_dict(raw) == settings


# Fields


def test_the_rate_is_halved_as_published_rises_in_the_warmup_and_falls_by_a_cosine():
    schedule = load_settings("x8-general", ["schedule.encoder=rrdb.pth"]).schedule
    assert (schedule.iterations, schedule.freeze_encoder) == (200_000, 0.5)
    rates = [
        schedule.learning_rate_at(int(share * 200_000))
        for share in (0, 0.499, 0.5, 0.75, 0.9, 0.95)
    ]
    assert rates == pytest.approx([5e-4, 5e-4, 2.5e-4, 1.25e-4, 6.25e-5, 3.125e-5])
    scratch = load_settings("x8-general").schedule
    assert (scratch.iterations, scratch.freeze_encoder) == (300_000, 0)
    rising = load_settings(
        "x4-small", ["schedule.warmup=4", "schedule.learning_rate=1e-3"]
    ).schedule
    assert [rising.learning_rate_at(i) for i in (0, 4, 5)] == pytest.approx([2e-4, 1e-3, 1e-3])
    cosine = load_settings(
        "x4-small", ["schedule.decay=cosine", "schedule.iterations=100"]
    ).schedule
    assert cosine.learning_rate_at(50) == pytest.approx(2.5e-4)


def test_an_encoder_is_trained_on_a_clean_target_unless_told_otherwise():
    minimal = {"network": {"kind": "rrdb"}, "data": {"crop": 16, "batch": 1}}
    assert RunSettings.from_dict(minimal).objective.noise == 0
    assert RunSettings.from_dict({**minimal, "objective": {"noise": 1}}).objective.noise == 1


def test_a_degradation_is_a_preset_fields_or_off():
    for name, fields in DEGRADATIONS.items():
        assert load_settings(
            "x4-small", [f"data.degradation={name}"]
        ).data.degradation == Degradation(**fields)
        changed = load_settings("x4-small", [f"data.degradation={{preset: {name}, clean: 0.25}}"])
        assert changed.data.degradation == Degradation(**{**fields, "clean": 0.25})
    for off in ("off", "false", "null", "''", ""):
        assert load_settings("x4-small", [f"data.degradation={off}"]) == load_settings("x4-small")


def test_degradation_is_saved_published_and_compared():
    strong, off = (tiny_settings(data={"degradation": name}) for name in ("strong", None))
    assert RunSettings.from_dict(yaml.safe_load(dump_settings(strong))) == strong
    assert without_paths(strong).data.degradation == strong.data.degradation
    assert first_difference(strong, off, {}).startswith("data.degradation (")
    older = yaml.safe_load(dump_settings(off))
    del older["data"]["degradation"]
    assert first_difference(RunSettings.from_dict(older), off, {}) == ""


def test_what_is_handed_on_with_a_model_says_nothing_of_the_machine():
    overrides = [
        "schedule.encoder=/home/me/rrdb.pth",
        "data.cache=/scratch/me",
        "hardware.devices=2",
    ]
    settings = without_paths(load_settings("x4-small", overrides))
    assert settings.schedule.encoder == "rrdb.pth"
    assert "/" not in dump_settings(settings)
    assert settings.hardware.devices == 1


# Files


def test_resolved_settings_are_settings(tmp_path):
    for override in ("schedule.seed=7", "data.cache=off", 'data.cache=""', "data.cache=false"):
        settings = load_settings("x4-small", [override])
        (tmp_path / "config.yaml").write_text(dump_settings(settings))
        assert load_settings(str(tmp_path / "config.yaml")) == settings
        assert settings.data.cache == ("off" if "cache" in override else "auto")
    assert yaml.safe_load(dump_settings(settings))["schedule"]["ema"] == 0.999


def test_what_a_stage_sets_is_its_own_and_overrides_come_last(tmp_path):
    text = "base: x4-small\nencoder_data: {batch: 3}\nencoder_schedule: {warmup: 7}\n"
    (tmp_path / "run.yaml").write_text(text)
    encoder = load_settings(
        str(tmp_path / "run.yaml"), ["data.crop=64", "network.blocks=2"], stage="encoder"
    )
    assert (encoder.data.batch, encoder.data.crop, encoder.data.choose_of) == (3, 64, 3)
    assert (encoder.schedule.warmup, encoder.schedule.decay, encoder.config().blocks) == (
        7,
        "cosine",
        2,
    )
    assert load_settings(str(tmp_path / "run.yaml")) == load_settings("x4-small")
    (tmp_path / "saved.yaml").write_text(dump_settings(encoder))
    assert load_settings(str(tmp_path / "saved.yaml"), stage="encoder") == encoder
    (tmp_path / "run.yaml").write_text("base: x4-small\nencoder_data:\n  batch: 0\n")
    with pytest.raises(ArgumentError, match=r"^data\.batch: "):
        load_settings(str(tmp_path / "run.yaml"), stage="encoder")


def test_a_file_takes_what_it_does_not_set_from_its_base(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "base: x4-small\nnetwork: {hidden: 48}\nschedule:\nobjective: {l1: 1}\n"
    )
    (tmp_path / "longer.yaml").write_text("base: mine.yaml\nschedule: {iterations: 9000}\n")
    found = load_settings(str(tmp_path / "longer.yaml"), ["network.steps=4"])
    overrides = [
        "network.hidden=48",
        "objective.l1=1",
        "schedule.iterations=9000",
        "network.steps=4",
    ]
    assert found == load_settings("x4-small", overrides)


@pytest.mark.parametrize(
    ("base", "own", "expected"),
    [
        ("strong", "{clean: 0.5}", {"preset": "strong", "clean": 0.5}),
        (
            "{preset: strong, blur: 0.2}",
            "{clean: 0.5}",
            {"preset": "strong", "blur": 0.2, "clean": 0.5},
        ),
        ("{preset: strong, blur: 0.2}", "{preset: photo, clean: 0.5}", {"clean": 0.5}),
        ("off", "{clean: 0.5}", {"clean": 0.5}),
        ("{preset: strong, blur: 0.2}", "photo", {}),
    ],
)
def test_fields_of_a_degradation_change_what_the_base_has_and_a_preset_starts_anew(
    tmp_path,
    base,
    own,
    expected,
):
    (tmp_path / "base.yaml").write_text(f"base: x4-small\ndata: {{degradation: {base}}}\n")
    (tmp_path / "own.yaml").write_text(f"base: base.yaml\ndata: {{degradation: {own}}}\n")
    assert load_settings(str(tmp_path / "own.yaml")).data.degradation == Degradation(**expected)


# Errors

REFUSED = [  # what is set beside x4-small, and what is said of it
    ("schedule.iteration=3", r"^unknown field schedule.iteration; the fields are iterations, "),
    ("schedul.iterations=3", "unknown field schedul; the fields are network, data, "),
    ("data.batch=many", r"^data\.batch: Input should be a valid integer, .* \(it is 'many'\)$"),
    ("data.crop=", r"data\.crop: Field required"),
    ("data.crop=20", "data.crop is 20.*multiples of 8"),
    ("data.lr=folder", "data: lr: .*widest"),
    ("data.teacher=folder", "data.teacher is for LR encoders"),
    ("network.kind=gan", "network.kind is 'gan'"),
    ("network.variant=newest", "variant is 'newest'"),
    ("network.clamp=.inf", "clamp and split_clamp must be positive and finite"),
    ("network.scale=5", "network: scale is 5: Input should be 2, 4, 8 or 16"),
    ("network.step=3", "unknown field 'step'"),
    ("hardware.devices=3", "must be a multiple of the 3 devices"),
    ("iterations=3", "section.field=value"),
    ("network.nf=2001-99-99", r"^--set network\.nf: cannot be read as YAML"),
    (
        "data.degradation=phone",
        r"data\.degradation: 'phone' is no preset: take photo or strong \(or .*=off\)",
    ),
    (
        "data.degradation.blurr=1",
        r"unknown field data\.degradation\.blurr; the fields are preset, passes, clean, ",
    ),
    (
        "data.degradation={noise_sigma: [5, 1]}",
        r"noise_sigma: the first number must not be above the second",
    ),
    (
        "data.degradation={blur_sigma: [1, 2.2]}",
        "blur_sigma is above 2.12, the most for passes=2: .*: lower either",
    ),
    (
        "data.degradation={resize_factor: [1, 3], passes: 3}",
        "resize_factor is above 2, the most for passes=3",
    ),
]


@pytest.mark.parametrize(("override", "message"), REFUSED, ids=itertools.count())
def test_wrong_settings_are_named_in_one_line(override, message):
    with pytest.raises(ArgumentError, match=message) as error:
        load_settings("x4-small", [override])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stage", "overrides", "message"),
    [
        (
            "flow",
            ["network.stacked_blocks=[10]", "network.blocks=2"],
            "stacked_blocks is .* 0 … 1",
        ),
        (
            "flow",
            ["data.lr=lr", "data.degradation=photo"],
            r"data: lr: LR files are used as they are: set ",
        ),
        ("encoder", ["network.hidden=3"], r"unknown field network\.hidden"),
        (
            "flow",
            ["objective.grid=1"],
            "objective.grid is for images that objective.l1 or perceptual decodes",
        ),
        ("encoder", ["data.teacher=pictures"], "set both"),
        ("encoder", ["objective.teacher=0.5"], "set both"),
    ],
)
def test_wrong_settings_of_an_rrdb_are_named(stage, overrides, message):
    with pytest.raises(ArgumentError, match=message):
        load_settings("x4-general", overrides, stage=stage)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: x5", "no configuration .*x4-small"),
        ("base: 3", "base is 3"),
        ("base: x4-small\ndata: {cropp: }", r"^unknown field data\.cropp"),
        ("base: x4-small\nschedule: 3", r"^schedule: Input should be a valid dictionary"),
        ("network: [1]", "network: Input should be a valid dictionary"),
        ("- 1", "the sections network, data, "),
        ("\xff\xfe", "cannot be read"),
        ("a: [", "cannot be read as YAML"),
        ("[" * 500, "cannot be read as YAML"),
        ("!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
    ],
    ids=itertools.count(),
)
def test_files_that_are_no_settings_are_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "run.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ArgumentError, match=message) as error:
        load_settings(str(path), ["hardware.threads=1"])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
