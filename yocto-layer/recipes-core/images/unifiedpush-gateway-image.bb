SUMMARY = "An image for the shelf in the hallway"
DESCRIPTION = "Boots to a running gateway; for raspberrypi3, raspberrypi4-64 and qemuarm64."
HOMEPAGE = "https://unifiedpush.org/"
BUGTRACKER = "https://unifiedpush.org/"
CVE_PRODUCT = ""
SECTION = "net"
LICENSE = "Apache-2.0"

inherit core-image
inherit features_check

REQUIRED_DISTRO_FEATURES = "systemd"

IMAGE_INSTALL:append = " packagegroup-unifiedpush-gateway"
# An SD card wears out by writes.
IMAGE_FEATURES:append = " read-only-rootfs"

COMPATIBLE_MACHINE = "^(raspberrypi3|raspberrypi4-64|qemuarm64)$"
