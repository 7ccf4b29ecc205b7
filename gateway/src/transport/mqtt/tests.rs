//! The room over real sockets on the loopback.

mod certificate;
mod door;
pub(super) mod house;
mod leak;
mod limits;
mod malformed;
mod news;
mod partings;
pub(super) mod raw;
mod room;
mod rumqttd;
mod secure;
mod ways;
mod web_front;
