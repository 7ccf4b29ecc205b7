require unifiedpush-gateway.inc
require unifiedpush-gateway-crates.inc

# The sources are the repository that this layer lies in.
inherit externalsrc

EXTERNALSRC = "${THISDIR}/../../.."
# Its build tree is bitbake's, not the developer's.
EXTERNALSRC_BUILD = "${WORKDIR}/build"
