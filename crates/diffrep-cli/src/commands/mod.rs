//! One file for each subcommand.

pub(crate) mod architecture;
pub(crate) mod cka;
pub(crate) mod classify;
pub(crate) mod compare;
pub(crate) mod data;
pub(crate) mod dataset;
pub(crate) mod encoder;
pub(crate) mod extract;
pub(crate) mod fetch;
pub(crate) mod fid;
pub(crate) mod finetune;
pub(crate) mod forward;
pub(crate) mod import;
pub(crate) mod input;
pub(crate) mod inspect;
pub(crate) mod latent;
pub(crate) mod launch;
pub(crate) mod params;
pub(crate) mod preprocess;
pub(crate) mod pretrain;
pub(crate) mod probe;
pub(crate) mod report;
pub(crate) mod reproduce;
pub(crate) mod sample;
pub(crate) mod select;
pub(crate) mod store;
