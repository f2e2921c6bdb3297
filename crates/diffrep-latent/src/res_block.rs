use burn::module::Module;
use burn::tensor::{Device, Tensor};
use diffrep_ops::Activation;

use crate::layers::{Conv2d, GroupNorm, Linear, Stride};

/// Two convolutions, each behind a normalisation with SiLU, and a skip connection; in the U-Net the
/// timestep shifts the map between them.
#[derive(Module, Debug)]
pub struct ResBlock {
    /// `norm1`
    pub norm1: GroupNorm,
    /// `conv1`
    pub conv1: Conv2d,
    /// `time_emb_proj`; the VAE knows no timestep.
    pub time_emb_proj: Option<Linear>,
    /// `norm2`
    pub norm2: GroupNorm,
    /// `conv2`
    pub conv2: Conv2d,
    /// `conv_shortcut`, where the number of channels changes.
    pub conv_shortcut: Option<Conv2d>,
}

impl ResBlock {
    pub(crate) fn new(
        [inputs, outputs]: [usize; 2],
        embedding: Option<usize>,
        groups: usize,
        eps: f64,
        device: &Device,
    ) -> Self {
        let conv = |channels, kernel| Conv2d::new(channels, kernel, Stride::Same, device);
        Self {
            norm1: GroupNorm::new(inputs, groups, eps, device),
            conv1: conv([inputs, outputs], 3),
            time_emb_proj: embedding.map(|width| Linear::new(width, outputs, device)),
            norm2: GroupNorm::new(outputs, groups, eps, device),
            conv2: conv([outputs, outputs], 3),
            conv_shortcut: (inputs != outputs).then(|| conv([inputs, outputs], 1)),
        }
    }

    /// `x`: `[batch, in, height, width]`; `embedding`: `[batch, embedding]` or one row for all,
    /// already through SiLU; result: `[batch, out, height, width]`.
    pub(crate) fn forward(&self, x: Tensor<4>, embedding: Option<&Tensor<2>>) -> Tensor<4> {
        let hidden = self.norm1.forward(x.clone(), Activation::Silu);
        let mut hidden = self.conv1.forward(hidden);
        if let (Some(proj), Some(embedding)) = (&self.time_emb_proj, embedding) {
            let shift = proj.forward(embedding.clone());
            let [rows, channels] = shift.dims();
            hidden = hidden + shift.reshape([rows, channels, 1, 1]);
        }
        let hidden = self.norm2.forward(hidden, Activation::Silu);
        let skip = match &self.conv_shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };
        self.conv2.forward_plus(hidden, skip)
    }

    /// Packs all convolutions, of maps of the given side.
    pub(crate) fn pack(&mut self, side: usize) {
        self.conv1.pack(side);
        self.conv2.pack(side);
        if let Some(conv) = &mut self.conv_shortcut {
            conv.pack(side);
        }
    }
}
