#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = mcp_registry_gateway_fuzz::harness::redirect_uri(data);
});
