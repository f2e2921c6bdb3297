//! Classifier heads that read pooled diffusion features
