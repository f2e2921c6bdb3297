//! One file for each subcommand.

pub(crate) mod classify;
pub(crate) mod extract;
//W pub(crate) mod forward;
//W pub(crate) mod import;
pub(crate) mod input;
//W pub(crate) mod inspect;
pub(crate) mod pretrain;
pub(crate) mod probe;
pub(crate) mod reproduce;
