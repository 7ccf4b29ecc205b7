SUMMARY = "Settings of the UnifiedPush gateway"
DESCRIPTION = "A package of its own, so that a site replaces it by a bbappend and rebuilds no program."
HOMEPAGE = "https://unifiedpush.org/"
BUGTRACKER = "https://unifiedpush.org/"
SECTION = "net"
CVE_PRODUCT = ""
LICENSE = "Apache-2.0"
# nooelint: oelint.var.licenseremotefile - the settings are the layer's own
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

SRC_URI = "file://unifiedpush-gateway.toml"

S = "${UNPACKDIR}"

inherit allarch

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    if grep -q "^# This is the layer's sample" ${S}/unifiedpush-gateway.toml; then
        bbwarn "unifiedpush-gateway.toml is the layer's sample: it serves loopback only; add your own in a bbappend"
    fi
    install -d ${D}${sysconfdir}/unifiedpush-gateway
    install -m 0644 ${S}/unifiedpush-gateway.toml ${D}${sysconfdir}/unifiedpush-gateway/
}

CONFFILES:${PN} = "${sysconfdir}/unifiedpush-gateway/unifiedpush-gateway.toml"
