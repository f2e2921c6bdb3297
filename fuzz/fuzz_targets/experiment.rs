//! Experiment files in TOML.
#![no_main]

use diffrep_fuzz::file;
use diffrep_plan::Plan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = file("fuzzed.toml", data);
    let name = path.to_str().expect("the folder's name is text");
    let Ok(plan) = Plan::named(name) else {
        return;
    };
    for scale in plan.scales() {
        plan.assets(scale).expect("a scale that the plan lists");
    }
});
