//! Published checkpoints to modules: architecture inference, strict loading, a report of every tensor
