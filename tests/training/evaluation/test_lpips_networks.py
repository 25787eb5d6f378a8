"""LPIPS from a file of torchvision's weights, against its definition."""

import pytest
import torch
from torch.nn import functional as F

from srflow_sdk.errors import CheckpointError
from srflow_training import figures
from srflow_training.evaluation.lpips_networks import open_lpips

pytest.importorskip("lpips", reason="the extra [lpips] is not installed")


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.alexnet(weights=None).eval()
    for name in ("classifier.1", "classifier.4", "classifier.6"):  # a small file
        network.get_submodule(name).weight.data = torch.zeros(1)
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    torch.save(network.state_dict(), path)
    return path, network


@torch.no_grad()
def test_lpips_is_what_its_definition_gives(alexnet):
    path, network = alexnet
    found, notes = open_lpips([path])
    assert (list(found), notes) == (["alex"], [])
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
    found, notes = open_lpips([])
    assert found == {}
    assert "--lpips-backbone" in notes[0]


def test_a_backbone_in_torchvisions_cache_is_used(alexnet, tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").write_bytes(alexnet[0].read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert list(open_lpips([])[0]) == ["alex"]


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_other_files_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pth.*AlexNet"):
        open_lpips([tmp_path / "x.pth"])
