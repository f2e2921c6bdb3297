#![doc = include_str!("../README.md")]

mod crew;
mod engine;
mod latents;
mod pixels;
mod setting;
mod shelf;

pub use engine::{ExtractError, Extraction, Noising, features, forwards, is_current, micro_batch};
pub use latents::{FirstStageInfo, WithLatents};
pub use pixels::Pixels;
pub use setting::{Setting, SettingError, Settings};
pub use shelf::Gathered;
