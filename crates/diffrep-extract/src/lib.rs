//! Images to features: noising, the frozen encoder, pooling, batching and resume
