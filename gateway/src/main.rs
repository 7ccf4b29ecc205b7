//! The binary: parses, dispatches, and is the only place that ends the process.

fn main() {}
