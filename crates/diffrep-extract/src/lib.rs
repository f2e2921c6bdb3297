#![doc = include_str!("../README.md")]

mod batch;
mod crew;
mod engine;
mod latents;
mod noise;
mod pixels;
mod rows;
mod setting;
mod shelf;

pub use batch::{Batch, micro_batch};
pub use engine::{ARITHMETIC, ExtractError, Extraction, Noising, features, forwards, is_current};
pub use latents::{FirstStageInfo, WithLatents};
pub use noise::{Noise, NoiseFile};
pub use pixels::Pixels;
pub use rows::{DRAW, FLIP, Views};
pub use setting::{Setting, SettingError, Settings};
pub use shelf::Gathered;
