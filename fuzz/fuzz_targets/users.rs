#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pasque_fuzz_targets::users::run(input));
