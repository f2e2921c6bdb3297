//! What targets share: files of this process in memory, archives around fuzzed bytes, and panics that are caught.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A folder of this process alone, on a disk in memory where there is one.
pub fn folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory.to_path_buf()
    } else {
        std::env::temp_dir()
    };
    let folder = parent.join(format!("diffrep-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for fuzzed files can be made");
    folder
}

/// A file of these bytes; the next one of this name takes its place.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("a fuzzed file can be written");
    path
}

/// A ZIP archive of these members, uncompressed, with the checksums that a fuzzer does not guess.
pub fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let in_memory = "writing to memory does not fail";
    for (name, bytes) in members {
        writer.start_file(*name, options).expect(in_memory);
        writer.write_all(bytes).expect(in_memory);
    }
    writer.finish().expect(in_memory).into_inner()
}

/// Lets the program under test catch panics of libraries that are not ours, as it does for users: the fuzzer's own
/// hook would end the run before that. A panic that nobody catches still ends it.
pub fn let_panics_be_caught() {
    std::panic::set_hook(Box::new(|_| ()));
}
