//! Feature stores: a manifest, and after a byte 0 the one shard beside it.
#![no_main]

use diffrep_fuzz::{file, folder};
use diffrep_store::Store;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // JSON has no byte 0, so that it can end the manifest.
    let (manifest, shard) = match data.iter().position(|&byte| byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    file("manifest.json", manifest);
    file("shard-00000.safetensors", shard);
    let Ok(store) = Store::open(folder()) else {
        return;
    };
    assert_eq!(store.ids().len(), store.len());
    assert_eq!(store.labels().len(), store.len());
    let _ = store.verify();
    for spec in &store.spec().columns {
        let column = store
            .column(&spec.name)
            .expect("a column that the store lists");
        assert_eq!(column.to_f32().len(), store.len() * spec.dim);
        let mut row = vec![0.0; spec.dim];
        column
            .read_rows(&[store.len() - 1], &mut row)
            .expect("the last row is there");
    }
});
