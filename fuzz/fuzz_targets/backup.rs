#![no_main]
#![expect(missing_docs, reason = "a program; the target is described in the library")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::backup::check(data));
