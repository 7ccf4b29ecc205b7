//! A disk of our own, which loses and refuses what it is told to. It needs FUSE.

mod fuse;
mod random;
mod volume;

pub use fuse::Mounted;
pub use random::Random;
pub use volume::{Fault, Loss};
