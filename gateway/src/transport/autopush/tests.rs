//! The room over real sockets on the loopback, behind a listener as small as a test needs.

mod door;
mod house;
mod protocol;
