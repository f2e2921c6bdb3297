//! Features of any origin for `diffrep probe`: safetensors with `features` and `labels`.
#![no_main]

use diffrep_fuzz::file;
use diffrep_probe::Features;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = file("fuzzed.safetensors", data);
    if let Ok((features, shape)) = Features::from_file(&path) {
        assert_eq!(shape.iter().product::<usize>(), features.dim);
        assert_eq!(features.values.len(), features.len() * features.dim);
        assert!(features.values.iter().all(|value| value.is_finite()));
    }
});
