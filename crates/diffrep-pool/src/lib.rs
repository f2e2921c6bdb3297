//! Adaptive average pooling pyramids and flattening of feature maps
