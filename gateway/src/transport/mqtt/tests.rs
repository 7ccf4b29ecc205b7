//! The room over real sockets on the loopback.

mod door;
pub(super) mod house;
mod limits;
pub(super) mod raw;
mod room;
mod secure;
