#![doc = include_str!("../README.md")]

mod atomic;
mod error;
mod hash;
mod json;
mod lock;
mod record;

pub use atomic::{
    create_dir_all, finish, read_bytes, remove_stale_temps, remove_stale_temps_of, write_atomic,
    write_atomic_hashed, write_bytes_atomic,
};
pub use error::{ArtifactError, Held};
pub use hash::Sha256Hex;
pub use json::{read_json, write_json_atomic};
pub use lock::Lock;
pub use record::{Host, Provenance, Record, read_record, unix_now, write_record};
