use burn::tensor::Tensor;
use diffrep_taps::{BlockIndex, Condition, Encoder, Feedback, TapInfo, TapSet, Taps};

/// The encoder that does nothing: its only block is the image. A probe on it is the control that
/// asks what any network adds.
#[derive(Clone, Copy, Debug)]
pub struct Pixels {
    /// Channels of the image.
    pub channels: usize,
    /// Height and width of the image.
    pub size: usize,
}

impl Encoder for Pixels {
    fn taps(&self) -> Vec<TapInfo> {
        vec![TapInfo {
            block: BlockIndex::at(0),
            name: "pixels".into(),
            channels: self.channels,
            height: self.size,
            width: self.size,
        }]
    }

    fn forward_taps(
        &self,
        image: Tensor<4>,
        _condition: &Condition,
        _wanted: &TapSet,
        _feedback: Option<&Feedback>,
    ) -> Taps {
        let mut taps = Taps::new();
        taps.insert(BlockIndex::at(0), image);
        taps
    }
}
