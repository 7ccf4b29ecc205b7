//! The room over real sockets, with a server that says exactly what it is told to.

mod door;
mod hostile;
mod house;
mod protocol;
mod sink;
mod stream;
