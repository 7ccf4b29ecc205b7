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
# Not read-only-rootfs: its /var/lib is in memory, and the state would be gone after each power cut. So that an SD card
# does not wear out all the same, no time of last reading is written; OE keeps the journal in memory.
root_noatime[doc] = "Lets the root be mounted without times of last reading"
root_noatime() {
    sed -i '/^\/dev\/root/s/defaults/defaults,noatime/' ${IMAGE_ROOTFS}${sysconfdir}/fstab
}
ROOTFS_POSTPROCESS_COMMAND:append = " root_noatime"

COMPATIBLE_MACHINE = "^(raspberrypi3|raspberrypi4-64|qemuarm64)$"
