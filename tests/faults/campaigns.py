"""The list of campaigns."""

from __future__ import annotations

from tests.faults import (
    checkpoints,
    clips,
    configs,
    demo,
    full_disk,
    kills,
    latents,
    load,
    native,
    pictures,
    servers,
    urls,
)
from tests.faults.attempts import Campaign

CAMPAIGNS = {
    campaign.name: campaign
    for campaign in (
        Campaign(name="export", title="kills of an export", attack=kills.kill_export, count=30, short=4),
        Campaign(name="folder", title="kills of a run over a folder", attack=kills.kill_folder, count=40, short=4),
        Campaign(name="restoring", title="kills of restoring", attack=kills.kill_restoring, count=30, short=4),
        Campaign(name="training", title="kills of a training run", attack=kills.kill_training, count=30, short=4),
        Campaign(name="disk", title="full disks and limits", attack=full_disk.attack, count=48, short=8),
        Campaign(name="checkpoints", title="mutated checkpoints", attack=checkpoints.attack, count=1000, short=200),
        Campaign(name="pictures", title="mutated pictures", attack=pictures.attack, count=4000, short=1200),
        Campaign(name="clips", title="clips of every kind and name", attack=clips.attack, count=300, short=12),
        Campaign(name="latents", title="mutated latents", attack=latents.attack, count=2000, short=300),
        Campaign(name="configs", title="mutated settings", attack=configs.attack, count=600, short=150),
        Campaign(name="native", title="arguments for the C interface", attack=native.attack, count=200, short=20),
        Campaign(name="servers", title="hostile servers", attack=servers.attack, count=1000, short=80),
        Campaign(name="urls", title="URLs with secrets", attack=urls.attack, count=100, short=10),
        Campaign(name="demo", title="hostile requests to srflow-demo", attack=demo.attack, count=400, short=60),
        Campaign(name="load", title="many threads on one Upscaler", attack=load.attack, count=600, short=120),
    )
}
