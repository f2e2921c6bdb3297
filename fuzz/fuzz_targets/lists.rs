//! Lists of `id rest` and of `path,label`.
#![no_main]

use std::path::{Component, Path};

use diffrep_datasets::list::{labelled_names, pairs};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = Path::new("fuzzed.txt");
    let lines = data.split(|&byte| byte == b'\n').count();
    for pair in pairs(path, data).unwrap_or_default() {
        assert!(!pair.id.is_empty() && !pair.rest.is_empty());
        assert!((1..=lines).contains(&pair.line));
    }
    for line in labelled_names(path, data).unwrap_or_default() {
        assert!((1..=lines).contains(&line.number) && !line.label.is_empty());
        // No name leads out of the folder of the list.
        let mut parts = Path::new(&line.name).components();
        assert!(
            parts.all(|part| matches!(part, Component::Normal(_))),
            "{}",
            line.name
        );
    }
});
