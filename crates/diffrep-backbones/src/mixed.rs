//! The blocks of Inception-v3 as torchvision names them (models/inception.py), pooled as the
//! network of FID pools (pytorch_fid/inception.py): means leave the padding out, and the last block
//! takes maxima.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use crate::layers::{BatchNorm, Conv2d, max_pool, mean_pool};

const EPS: f64 = 1e-3;

/// `BasicConv2d`: convolution, normalisation, ReLU.
#[derive(Module, Debug)]
pub struct Unit {
    /// Without bias.
    pub conv: Conv2d,
    /// With an epsilon of 1e-3.
    pub bn: BatchNorm,
}

impl Unit {
    pub(crate) fn new(
        channels: [usize; 2],
        kernel: [usize; 2],
        stride: usize,
        device: &Device,
    ) -> Self {
        Self {
            conv: Conv2d::new(channels, kernel, stride, device),
            bn: BatchNorm::new(channels[1], EPS, device),
        }
    }

    pub(crate) fn unpadded(self) -> Self {
        Self {
            conv: self.conv.unpadded(),
            ..self
        }
    }

    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        relu(self.bn.forward(self.conv.forward(x)))
    }

    /// Returns the size of the output.
    pub(crate) fn pack(&mut self, input: [usize; 2]) -> [usize; 2] {
        self.conv.pack(&mut self.bn, input)
    }
}

/// Channels of a network whose numbers of channels are all divided by `divisor`.
#[derive(Clone, Copy)]
pub(crate) struct Widths<'a> {
    pub(crate) divisor: usize,
    pub(crate) device: &'a Device,
}

impl Widths<'_> {
    /// A padded unit of stride 1.
    fn same(self, channels: [usize; 2], kernel: [usize; 2]) -> Unit {
        let channels = channels.map(|count| count / self.divisor);
        Unit::new(channels, kernel, 1, self.device)
    }

    /// A 3x3 unit that halves the map.
    fn halving(self, channels: [usize; 2]) -> Unit {
        let channels = channels.map(|count| count / self.divisor);
        Unit::new(channels, [3, 3], 2, self.device).unpadded()
    }
}

/// Applies units in turn.
fn chain(units: &[&Unit], x: Tensor<4>) -> Tensor<4> {
    units.iter().fold(x, |x, unit| unit.forward(x))
}

/// A block of parallel branches, whose outputs are concatenated.
pub(crate) trait Mixed {
    fn forward(&self, x: Tensor<4>) -> Tensor<4>;

    fn units(&mut self) -> Vec<&mut Unit>;

    /// Packs every unit. All of them see maps of the block's input size: those that change it are
    /// the last of their branch.
    fn pack(&mut self, input: [usize; 2]) {
        for unit in self.units() {
            unit.pack(input);
        }
    }
}

macro_rules! mixed {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $new:expr,)* } |$widths:ident, $($argument:ident),*|) => {
        $(#[$doc])*
        #[derive(Module, Debug)]
        #[allow(missing_docs, reason = "the names are those of torchvision")]
        pub struct $name {
            $(pub $field: Unit,)*
        }

        impl $name {
            pub(crate) fn new($widths: Widths<'_>, $($argument: usize),*) -> Self {
                Self { $($field: $new,)* }
            }

            fn all(&mut self) -> Vec<&mut Unit> {
                vec![$(&mut self.$field),*]
            }
        }
    };
}

mixed! {
    /// `InceptionA`: 1x1, 5x5 and twice 3x3.
    InceptionA {
        branch1x1: widths.same([inputs, 64], [1, 1]),
        branch5x5_1: widths.same([inputs, 48], [1, 1]),
        branch5x5_2: widths.same([48, 64], [5, 5]),
        branch3x3dbl_1: widths.same([inputs, 64], [1, 1]),
        branch3x3dbl_2: widths.same([64, 96], [3, 3]),
        branch3x3dbl_3: widths.same([96, 96], [3, 3]),
        branch_pool: widths.same([inputs, pooled], [1, 1]),
    }
    |widths, inputs, pooled|
}

impl Mixed for InceptionA {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let double = [
            &self.branch3x3dbl_1,
            &self.branch3x3dbl_2,
            &self.branch3x3dbl_3,
        ];
        let branches = vec![
            self.branch1x1.forward(x.clone()),
            chain(&[&self.branch5x5_1, &self.branch5x5_2], x.clone()),
            chain(&double, x.clone()),
            self.branch_pool.forward(mean_pool(x)),
        ];
        Tensor::cat(branches, 1)
    }

    fn units(&mut self) -> Vec<&mut Unit> {
        self.all()
    }
}

mixed! {
    /// `InceptionB`: to half the size.
    InceptionB {
        branch3x3: widths.halving([inputs, 384]),
        branch3x3dbl_1: widths.same([inputs, 64], [1, 1]),
        branch3x3dbl_2: widths.same([64, 96], [3, 3]),
        branch3x3dbl_3: widths.halving([96, 96]),
    }
    |widths, inputs|
}

impl Mixed for InceptionB {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let double = [
            &self.branch3x3dbl_1,
            &self.branch3x3dbl_2,
            &self.branch3x3dbl_3,
        ];
        let branches = vec![
            self.branch3x3.forward(x.clone()),
            chain(&double, x.clone()),
            max_pool(x, 2, 0),
        ];
        Tensor::cat(branches, 1)
    }

    fn units(&mut self) -> Vec<&mut Unit> {
        self.all()
    }
}

mixed! {
    /// `InceptionC`: 7x7 as rows and columns, once and twice. The names do not say the direction:
    /// in the first, rows come first.
    InceptionC {
        branch1x1: widths.same([inputs, 192], [1, 1]),
        branch7x7_1: widths.same([inputs, hidden], [1, 1]),
        branch7x7_2: widths.same([hidden, hidden], [1, 7]),
        branch7x7_3: widths.same([hidden, 192], [7, 1]),
        branch7x7dbl_1: widths.same([inputs, hidden], [1, 1]),
        branch7x7dbl_2: widths.same([hidden, hidden], [7, 1]),
        branch7x7dbl_3: widths.same([hidden, hidden], [1, 7]),
        branch7x7dbl_4: widths.same([hidden, hidden], [7, 1]),
        branch7x7dbl_5: widths.same([hidden, 192], [1, 7]),
        branch_pool: widths.same([inputs, 192], [1, 1]),
    }
    |widths, inputs, hidden|
}

impl Mixed for InceptionC {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let double = [
            &self.branch7x7dbl_1,
            &self.branch7x7dbl_2,
            &self.branch7x7dbl_3,
            &self.branch7x7dbl_4,
            &self.branch7x7dbl_5,
        ];
        let single = [&self.branch7x7_1, &self.branch7x7_2, &self.branch7x7_3];
        let branches = vec![
            self.branch1x1.forward(x.clone()),
            chain(&single, x.clone()),
            chain(&double, x.clone()),
            self.branch_pool.forward(mean_pool(x)),
        ];
        Tensor::cat(branches, 1)
    }

    fn units(&mut self) -> Vec<&mut Unit> {
        self.all()
    }
}

mixed! {
    /// `InceptionD`: to half the size.
    InceptionD {
        branch3x3_1: widths.same([inputs, 192], [1, 1]),
        branch3x3_2: widths.halving([192, 320]),
        branch7x7x3_1: widths.same([inputs, 192], [1, 1]),
        branch7x7x3_2: widths.same([192, 192], [1, 7]),
        branch7x7x3_3: widths.same([192, 192], [7, 1]),
        branch7x7x3_4: widths.halving([192, 192]),
    }
    |widths, inputs|
}

impl Mixed for InceptionD {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let long = [
            &self.branch7x7x3_1,
            &self.branch7x7x3_2,
            &self.branch7x7x3_3,
            &self.branch7x7x3_4,
        ];
        let branches = vec![
            chain(&[&self.branch3x3_1, &self.branch3x3_2], x.clone()),
            chain(&long, x.clone()),
            max_pool(x, 2, 0),
        ];
        Tensor::cat(branches, 1)
    }

    fn units(&mut self) -> Vec<&mut Unit> {
        self.all()
    }
}

mixed! {
    /// The weights of `InceptionE`: branches that end in a row and a column side by side.
    InceptionE {
        branch1x1: widths.same([inputs, 320], [1, 1]),
        branch3x3_1: widths.same([inputs, 384], [1, 1]),
        branch3x3_2a: widths.same([384, 384], [1, 3]),
        branch3x3_2b: widths.same([384, 384], [3, 1]),
        branch3x3dbl_1: widths.same([inputs, 448], [1, 1]),
        branch3x3dbl_2: widths.same([448, 384], [3, 3]),
        branch3x3dbl_3a: widths.same([384, 384], [1, 3]),
        branch3x3dbl_3b: widths.same([384, 384], [3, 1]),
        branch_pool: widths.same([inputs, 192], [1, 1]),
    }
    |widths, inputs|
}

impl InceptionE {
    /// The block with `pooled`, which is its input pooled to the same size.
    fn forward_with(&self, x: Tensor<4>, pooled: Tensor<4>) -> Tensor<4> {
        let single = self.branch3x3_1.forward(x.clone());
        let double = chain(&[&self.branch3x3dbl_1, &self.branch3x3dbl_2], x.clone());
        let branches = vec![
            self.branch1x1.forward(x),
            self.branch3x3_2a.forward(single.clone()),
            self.branch3x3_2b.forward(single),
            self.branch3x3dbl_3a.forward(double.clone()),
            self.branch3x3dbl_3b.forward(double),
            self.branch_pool.forward(pooled),
        ];
        Tensor::cat(branches, 1)
    }
}

impl Mixed for InceptionE {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let pooled = mean_pool(x.clone());
        self.forward_with(x, pooled)
    }

    fn units(&mut self) -> Vec<&mut Unit> {
        self.all()
    }
}

/// The last block: an [`InceptionE`] that takes maxima where the others take means.
pub(crate) struct Last<'a>(pub(crate) &'a InceptionE);

impl Last<'_> {
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let pooled = max_pool(x.clone(), 1, 1);
        self.0.forward_with(x, pooled)
    }
}
