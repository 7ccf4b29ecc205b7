//! The room behind its door, and its WebSocket. Streams are tested by the native tests.

mod door;
mod socket;
