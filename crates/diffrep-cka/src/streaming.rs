//! Layers that come in batches, and layers that are there at once.

use std::ops::Range;

use rayon::prelude::*;

use crate::covariance::Covariances;
use crate::features::{Centred, check};
use crate::options::{Pairs, at_least};
use crate::sums::Sums;
use crate::{
    CkaError, Estimator, Features, Kernel, Layer, Matrix, Options, Path, Precision, gram, rbf,
};

/// Similarities of layers whose features come batch by batch.
///
/// With [`Estimator::Minibatch`], each push is cut into batches of nearly equal size that never reach
/// into the next push, and memory depends on the batch alone.
/// With the other estimators, the result is that of all rows at once; covariances of all pairs of
/// layers are held meanwhile, and only the linear kernel can do this.
/// [`peak_bytes`](crate::peak_bytes) predicts the memory.
pub struct Streaming {
    names: Vec<String>,
    pairs: Pairs,
    options: Options,
    /// What each layer is multiplied with, fixed by its first batch.
    scales: Vec<Option<f64>>,
    widths: Vec<usize>,
    state: State,
    samples: usize,
    batches: usize,
}

enum State {
    Minibatch(Sums),
    /// Sums over all rows about the mean of the first push.
    Exact(Option<(Covariances, Vec<Vec<f64>>)>),
}

impl Streaming {
    /// Compares the layers of one network with one another.
    ///
    /// # Errors
    ///
    /// If there is no layer, or the options cannot be streamed or contradict themselves.
    pub fn within<S: Into<String> + Clone>(
        layers: &[S],
        options: &Options,
    ) -> Result<Self, CkaError> {
        Self::new(layers, None, options)
    }

    /// Compares each layer of one network, a row of the result, with each of another, a column.
    ///
    /// # Errors
    ///
    /// If a network has no layer, or the options cannot be streamed or contradict themselves.
    pub fn between<S: Into<String> + Clone>(
        a: &[S],
        b: &[S],
        options: &Options,
    ) -> Result<Self, CkaError> {
        Self::new(a, Some(b), options)
    }

    fn new<S: Into<String> + Clone>(
        a: &[S],
        b: Option<&[S]>,
        options: &Options,
    ) -> Result<Self, CkaError> {
        options.check()?;
        let (pairs, names) = Pairs::of(a, b);
        if a.is_empty() || b.is_some_and(<[S]>::is_empty) {
            return Err(CkaError::NoLayers);
        }
        let state = match options.estimator {
            Estimator::Minibatch { .. } => State::Minibatch(Sums::zeros(pairs)),
            _ if options.kernel != Kernel::Linear => {
                let what = "RBF CKA of all rows";
                return Err(CkaError::NeedsAllRows { what });
            }
            _ if options.path == Path::Gram => {
                let what = "a Gram matrix of all rows";
                return Err(CkaError::NeedsAllRows { what });
            }
            _ => State::Exact(None),
        };
        Ok(Self {
            scales: vec![None; names.len()],
            names: names.into_iter().map(Into::into).collect(),
            pairs,
            options: *options,
            widths: Vec::new(),
            state,
            samples: 0,
            batches: 0,
        })
    }

    /// Adds samples: `a` holds the features of the first network's layers, in the order of their names,
    /// and `b` those of the second's; none with [`Streaming::within`].
    ///
    /// # Errors
    ///
    /// If layers are missing, rows or widths differ, a value is not finite, or a batch is too small;
    /// nothing has been added then.
    pub fn push(&mut self, a: &[Features<'_>], b: &[Features<'_>]) -> Result<(), CkaError> {
        self.check_count(self.pairs.rows, a.len())?;
        self.check_count(self.pairs.columns.unwrap_or(0), b.len())?;
        let first = a.iter().map(|layer| layer.reborrow());
        let layers: Vec<Features<'_>> = first
            .chain(b.iter().map(|layer| layer.reborrow()))
            .collect();
        let named: Vec<(&str, Features<'_>)> = self
            .names
            .iter()
            .map(String::as_str)
            .zip(layers.iter().copied())
            .collect();
        let rows = check(&named)?;
        let widths: Vec<usize> = layers.iter().map(Features::columns).collect();
        self.check_widths(&widths)?;
        match self.options.estimator {
            _ if rows == 0 => return Ok(()),
            Estimator::Minibatch { rows: most } => self.push_minibatches(&layers, rows, most)?,
            _ => self.push_exact(&layers, &widths),
        }
        self.widths = widths;
        self.samples += rows;
        Ok(())
    }

    /// The similarities of everything that was pushed.
    ///
    /// # Errors
    ///
    /// If there are too few rows, or a layer does not vary or left the range of its type.
    pub fn finish(self) -> Result<Matrix, CkaError> {
        let estimator = self.options.estimator;
        match &self.state {
            _ if self.samples == 0 => Err(CkaError::NoRows),
            State::Minibatch(sums) => sums.finish(&self.names, self.samples, self.batches),
            State::Exact(state) => {
                at_least(estimator, self.samples)?;
                let (covariances, _) = state.as_ref().ok_or(CkaError::NoRows)?;
                let sums = covariances.finish(estimator.is_unbiased(), self.options.precision);
                sums.finish(&self.names, self.samples, 1)
            }
        }
    }

    fn check_count(&self, expected: usize, found: usize) -> Result<(), CkaError> {
        if expected != found {
            return Err(CkaError::LayerCount { expected, found });
        }
        Ok(())
    }

    fn check_widths(&self, widths: &[usize]) -> Result<(), CkaError> {
        for ((name, &expected), &found) in self.names.iter().zip(&self.widths).zip(widths) {
            if expected != found {
                return Err(CkaError::WidthChanged {
                    layer: name.clone(),
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    fn push_minibatches(
        &mut self,
        layers: &[Features<'_>],
        rows: usize,
        most: usize,
    ) -> Result<(), CkaError> {
        let ranges = cut(rows, most);
        at_least(
            self.options.estimator,
            ranges.iter().map(Range::len).min().unwrap_or(0),
        )?;
        let mut added = Sums::zeros(self.pairs);
        for range in &ranges {
            let part: Vec<Features<'_>> = layers
                .iter()
                .map(|layer| layer.range(range.clone()))
                .collect();
            let sums = batch(
                self.pairs,
                &part,
                &self.names,
                &mut self.scales,
                &self.options,
            )?;
            let n = range.len() as f64;
            added.add(&sums, 1.0 / (n * (n - 3.0)));
        }
        if let State::Minibatch(sums) = &mut self.state {
            sums.add(&added, 1.0);
        }
        self.batches += ranges.len();
        Ok(())
    }

    fn push_exact(&mut self, layers: &[Features<'_>], widths: &[usize]) {
        let State::Exact(state) = &mut self.state else {
            return;
        };
        let mut layers: Vec<Centred<'_>> = match state {
            None => centred(layers, &mut self.scales),
            Some((_, shifts)) => layers
                .iter()
                .zip(shifts.iter().zip(&self.scales))
                .map(|(&features, (shift, scale))| Centred {
                    features,
                    scale: scale.unwrap_or(1.0),
                    shift: shift.clone(),
                })
                .collect(),
        };
        let (covariances, shifts) = state.get_or_insert_with(|| {
            let shifts = layers.iter().map(|layer| layer.shift.clone()).collect();
            (Covariances::new(self.pairs, widths), shifts)
        });
        match self.options.precision {
            Precision::Double => covariances.push::<f64>(&layers),
            Precision::Single => covariances.push::<f32>(&layers),
        }
        for (layer, shift) in layers.iter_mut().zip(shifts) {
            *shift = std::mem::take(&mut layer.shift);
        }
    }
}

/// Compares the layers of one network with one another: a symmetric matrix.
///
/// # Errors
///
/// If layers do not fit together, a value is not finite, there are too few rows, or a layer does not
/// vary.
pub fn within(layers: &[Layer<'_>], options: &Options) -> Result<Matrix, CkaError> {
    compare(layers, None, options)
}

/// Compares each layer of one network, a row of the result, with each of another, a column.
///
/// # Errors
///
/// As [`within`].
pub fn between(a: &[Layer<'_>], b: &[Layer<'_>], options: &Options) -> Result<Matrix, CkaError> {
    compare(a, Some(b), options)
}

/// The similarity of two feature matrices [n, d] and [n, d'], which errors call `x` and `y`.
///
/// # Errors
///
/// As [`within`].
pub fn cka<'a>(
    x: impl Into<Features<'a>>,
    y: impl Into<Features<'a>>,
    options: &Options,
) -> Result<f64, CkaError> {
    let matrix = between(&[Layer::new("x", x)], &[Layer::new("y", y)], options)?;
    Ok(matrix.values[[0, 0]])
}

fn compare(
    a: &[Layer<'_>],
    b: Option<&[Layer<'_>]>,
    options: &Options,
) -> Result<Matrix, CkaError> {
    options.check()?;
    let (pairs, named) = Pairs::of_layers(a, b);
    let names: Vec<String> = named.iter().map(|(name, _)| (*name).to_owned()).collect();
    let features: Vec<Features<'_>> = named.iter().map(|(_, features)| *features).collect();
    if let Estimator::Minibatch { .. } = options.estimator {
        let (a, b) = names.split_at(pairs.rows);
        let mut streaming = Streaming::new(a, pairs.columns.map(|_| b), options)?;
        let (a, b) = features.split_at(pairs.rows);
        streaming.push(a, b)?;
        return streaming.finish();
    }
    if pairs.shape().contains(&0) {
        return Err(CkaError::NoLayers);
    }
    let rows = check(&named)?;
    at_least(options.estimator, rows)?;
    let sums = batch(
        pairs,
        &features,
        &names,
        &mut vec![None; names.len()],
        options,
    )?;
    sums.finish(&names, rows, 1)
}

/// The sums of one batch.
fn batch(
    pairs: Pairs,
    layers: &[Features<'_>],
    names: &[String],
    scales: &mut [Option<f64>],
    options: &Options,
) -> Result<Sums, CkaError> {
    let widths: Vec<usize> = layers.iter().map(Features::columns).collect();
    let path = options.path_for(&pairs, layers[0].rows(), &widths);
    let (unbiased, precision) = (options.estimator.is_unbiased(), options.precision);
    let layers = centred(layers, scales);
    Ok(match (options.kernel, path, precision) {
        (Kernel::Rbf { fraction }, _, Precision::Double) => {
            rbf::sums::<f64>(pairs, &layers, names, fraction, unbiased, precision)?
        }
        (Kernel::Rbf { fraction }, _, Precision::Single) => {
            rbf::sums::<f32>(pairs, &layers, names, fraction, unbiased, precision)?
        }
        (Kernel::Linear, Path::Covariance, _) => {
            let mut covariances = Covariances::new(pairs, &widths);
            match precision {
                Precision::Double => covariances.push::<f64>(&layers),
                Precision::Single => covariances.push::<f32>(&layers),
            }
            covariances.finish(unbiased, precision)
        }
        (Kernel::Linear, _, Precision::Double) => {
            gram::sums::<f64>(pairs, &layers, unbiased, precision)
        }
        (Kernel::Linear, _, Precision::Single) => {
            gram::sums::<f32>(pairs, &layers, unbiased, precision)
        }
    })
}

/// The layers about their means; scales are those of the first batch.
fn centred<'a>(layers: &[Features<'a>], scales: &mut [Option<f64>]) -> Vec<Centred<'a>> {
    let centre = |(&features, scale): (&Features<'a>, &mut Option<f64>)| {
        let layer = Centred::new(features, *scale);
        *scale = Some(layer.scale);
        layer
    };
    layers.par_iter().zip(scales).map(centre).collect()
}

/// Consecutive ranges of nearly equal length, none longer than `most`.
pub(crate) fn cut(rows: usize, most: usize) -> Vec<Range<usize>> {
    let count = rows.div_ceil(most);
    (0..count)
        .map(|i| i * rows / count..(i + 1) * rows / count)
        .collect()
}
