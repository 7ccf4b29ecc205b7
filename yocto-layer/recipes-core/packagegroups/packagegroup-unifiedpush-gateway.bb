SUMMARY = "A board that is a UnifiedPush gateway"
DESCRIPTION = "The gateway and its settings, for an image of your own or for the one in this layer."
HOMEPAGE = "https://unifiedpush.org/"
BUGTRACKER = "https://unifiedpush.org/"
CVE_PRODUCT = ""
SECTION = "net"
LICENSE = "Apache-2.0"

inherit packagegroup

RDEPENDS:${PN} = "\
    unifiedpush-gateway \
    unifiedpush-gateway-conf \
"
