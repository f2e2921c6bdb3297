#![doc = include_str!("../README.md")]

mod crew;
mod engine;
mod noise;
mod pixels;
mod rows;
mod setting;
mod shelf;

pub use engine::{
    Batch, ExtractError, Extraction, Noising, features, forwards, is_current, micro_batch,
};
pub use noise::{Noise, NoiseFile};
pub use pixels::Pixels;
pub use rows::{DRAW, FLIP, Views};
pub use setting::{Setting, SettingError, Settings};
pub use shelf::Gathered;
