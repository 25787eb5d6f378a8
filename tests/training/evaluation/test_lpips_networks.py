"""LPIPS from a file of torchvision's weights, against its definition."""

import pytest
import torch
from torch.nn import functional as F

from srflow_sdk.errors import ArgumentError, CheckpointError
from srflow_training import figures
from srflow_training.evaluation.lpips_networks import backbone_files, open_lpips
from srflow_training.evaluation.subjects import LevelTaus
from srflow_training.evaluation.tau_sweep import tau_sweep

pytest.importorskip("lpips", reason="the extra [lpips] is not installed")
torchvision = pytest.importorskip("torchvision")


@torch.no_grad()
def test_lpips_is_what_its_definition_gives(alexnet):
    path = alexnet
    network = torchvision.models.alexnet(weights=None).eval()
    features = {k: v for k, v in torch.load(path, weights_only=True).items() if k.startswith("features")}
    network.load_state_dict(features, strict=False)
    assert backbone_files([path]) == ([path], [])
    found = open_lpips([path])
    assert list(found) == ["alex"]
    image, reference = ((torch.rand(1, 3, 64, 64) * 255).round() / 255 for _ in range(2))
    mean, std = (torch.tensor(values)[None, :, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected, layers = 0.0, [(x - mean) / std for x in (image, reference)]
    number = 0
    for module in network.features:
        layers = [module(x) for x in layers]
        if isinstance(module, torch.nn.ReLU):
            weights = found["alex"].lins[number].model[1].weight
            one, other = (F.normalize(x, dim=1) for x in layers)
            expected += float((weights * (one - other).square()).sum(dim=1).mean())
            number += 1
    assert number == 5
    assert figures.lpips_distance(found["alex"], image, reference) == pytest.approx(expected, rel=1e-3)
    assert figures.lpips_distance(found["alex"], reference, reference) == 0


def test_without_a_backbone_a_sentence_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    found, notes = backbone_files([])
    assert found == []
    assert "--lpips-backbone" in notes[0]


def test_a_backbone_in_torchvisions_cache_is_used(alexnet, tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").write_bytes(alexnet.read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert backbone_files([]) == ([tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"], [])


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_other_files_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pth.*AlexNet"):
        open_lpips([tmp_path / "x.pth"])


def test_figures_of_another_backbone_are_not_continued(alexnet, options, tmp_path):
    tau_sweep(options(taus=[LevelTaus((0.8,))], samples=2, most=1, lpips_backbones=[alexnet]))
    state = torch.load(alexnet, weights_only=True)
    torch.save({**state, "features.0.bias": state["features.0.bias"] + 1}, tmp_path / "other.pth")
    with pytest.raises(ArgumentError, match=r"different: lpips\)"):
        tau_sweep(options(taus=[LevelTaus((0.8,))], samples=2, most=1, lpips_backbones=[tmp_path / "other.pth"]))
    assert "lpips_alex" in (tmp_path / "out" / "results.csv").read_text()
