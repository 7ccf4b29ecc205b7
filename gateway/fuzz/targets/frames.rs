//! The frame path.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| unifiedpush_gateway::transport::mqtt::fuzzing::frames(data));
