//! Operations on a session.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| unifiedpush_gateway::transport::mqtt::fuzzing::operations(data));
