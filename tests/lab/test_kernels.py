from __future__ import annotations

from lab.debian import version_key
from lab.kernels import early_modules

DEPENDENCIES = {
    "kernel/drivers/virtio/virtio_ring.ko.xz": [],
    "kernel/drivers/virtio/virtio.ko.xz": ["kernel/drivers/virtio/virtio_ring.ko.xz"],
    "kernel/drivers/block/virtio_blk.ko.xz": [
        "kernel/drivers/virtio/virtio.ko.xz",
        "kernel/drivers/virtio/virtio_ring.ko.xz",
    ],
    "kernel/drivers/virtio/virtio-rng.ko.xz": ["kernel/drivers/virtio/virtio.ko.xz"],
}


def test_what_a_module_needs_is_loaded_before_it_and_once() -> None:
    assert early_modules(DEPENDENCIES, ["virtio_blk", "virtio_rng"]) == [
        "kernel/drivers/virtio/virtio_ring.ko.xz",
        "kernel/drivers/virtio/virtio.ko.xz",
        "kernel/drivers/block/virtio_blk.ko.xz",
        "kernel/drivers/virtio/virtio-rng.ko.xz",
    ]


def test_a_module_that_is_built_in_has_nothing_to_load() -> None:
    assert early_modules(DEPENDENCIES, ["virtio_pci"]) == []


def test_the_newest_package_is_found_by_number_not_by_letter() -> None:
    names = ["linux-image-7.0.13+deb13-cloud-amd64", "linux-image-7.0.9+deb13-cloud-amd64"]
    assert max(names, key=version_key) == names[0]
