//! Real XMPP servers, and phones with Conversations on them.

mod oracle;
