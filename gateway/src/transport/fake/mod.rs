//! A scripted transport for tests.
