//! Downloads from a server on the loopback device, and archives that mean harm.

mod archives;
mod downloads;
mod failures;
mod resume;
mod server;
