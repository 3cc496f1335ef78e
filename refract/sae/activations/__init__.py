"""Activations of a model: harvested once into a folder, fetched in a shuffled order, or mixed as they come.

    store = harvest(model, pack(corpus("train"), model.tokenizer, 128), "blocks.10.hook_resid_post", folder, source="…")
    for x in batches(store, 2048, seed=0):     # float32 [batch d_in], for ever
        ...

``harvest`` can be killed at any moment and called again. ``stream`` and ``ShuffleBuffer`` are the way without a disk.
"""

from refract.sae.activations.forward import Harvested, stream
from refract.sae.activations.harvest import harvest
from refract.sae.activations.manifest import Manifest, OnProgress, Settings, Shard
from refract.sae.activations.order import Order, batches, steps_per_epoch
from refract.sae.activations.prefetch import prefetch
from refract.sae.activations.progress import bars
from refract.sae.activations.shuffle import ShuffleBuffer
from refract.sae.activations.store import Store, Where

__all__ = [
    "Harvested",
    "Manifest",
    "OnProgress",
    "Order",
    "Settings",
    "Shard",
    "ShuffleBuffer",
    "Store",
    "Where",
    "bars",
    "batches",
    "harvest",
    "prefetch",
    "steps_per_epoch",
    "stream",
]
