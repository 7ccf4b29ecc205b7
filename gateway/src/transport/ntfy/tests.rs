//! The room behind its door. Over real sockets it is tested by the native tests.

mod door;
