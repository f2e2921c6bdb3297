//! What comparing layers takes.

use crate::options::Pairs;
use crate::product::RUN;
use crate::streaming::cut;
use crate::tiles::{group, scratch_bytes, tiles};
use crate::{Estimator, Kernel, Options, Path, Precision};

/// An upper limit of the bytes that a comparison takes on top of the features given to it, whose
/// layers have `a` and `b` columns (`b` is `None` within one network), for `rows` rows given at once.
///
/// It does not depend on how much is pushed into a [`Streaming`](crate::Streaming): with
/// [`Estimator::Minibatch`] it depends on the batch, with the others on the products of widths.
/// Set `streamed` for `Streaming`, clear it for [`within`](crate::within) and
/// [`between`](crate::between), where the estimators of all rows may go through Gram matrices: these
/// are computed tile by tile, and only RBF CKA holds them as a whole.
/// The number of threads is that of the current rayon pool. What `faer` keeps for its products is not
/// counted: each thread that ever multiplies keeps room of up to six times the last cache's size, of which it
/// only touches what it fills.
pub fn peak_bytes(
    rows: usize,
    a: &[usize],
    b: Option<&[usize]>,
    options: &Options,
    streamed: bool,
) -> u64 {
    let (pairs, widths) = Pairs::of(a, b);
    let batch = match options.estimator {
        Estimator::Minibatch { rows: most } => cut(rows, most.max(1))
            .iter()
            .map(std::iter::ExactSizeIterator::len)
            .max()
            .unwrap_or(0),
        _ => rows,
    };
    let exact = streamed && !matches!(options.estimator, Estimator::Minibatch { .. });
    let path = if exact {
        Path::Covariance
    } else {
        options.path_for(&pairs, batch, &widths)
    };
    let path_bytes = match (options.kernel, path) {
        (Kernel::Linear, Path::Covariance) => covariance(&pairs, batch, &widths, options.precision),
        (kernel, _) => gram(&pairs, batch, kernel, options.precision),
    };
    let all: u64 = widths.iter().map(|&width| width as u64).sum();
    let widest = widths.iter().max().copied().unwrap_or(0) as u64;
    // Shifts, a copy of them with batches, and rows and sums while they are found; squares of rows.
    let means = 8 * (2 * all + 4 * widest * threads() + (batch * widths.len()) as u64);
    // The sums of three batches at most, some names, and the runtime's own tables.
    let small = 64 * (pairs.layers() as u64).pow(2) + (1 << 20);
    path_bytes + means + small
}

fn threads() -> u64 {
    rayon::current_num_threads() as u64
}

fn size(precision: Precision) -> usize {
    match precision {
        Precision::Double => 8,
        Precision::Single => 4,
    }
}

fn gram(pairs: &Pairs, rows: usize, kernel: Kernel, precision: Precision) -> u64 {
    if rows == 0 {
        return 0;
    }
    let all = tiles(rows);
    let (layers, largest) = (
        pairs.layers(),
        all.iter().map(|tile| tile.len()).max().unwrap_or(0),
    );
    let held = match kernel {
        Kernel::Linear => largest * group(layers, rows),
        // And a copy of half a matrix a thread, to find the median.
        Kernel::Rbf { .. } => all.iter().map(|tile| tile.len()).sum(),
    };
    let median = match kernel {
        Kernel::Linear => 0,
        Kernel::Rbf { .. } => 4 * (rows as u64).pow(2) * threads(),
    };
    // One product of all pairs for each chunk of a tile.
    let parts = (held as u64 / 8192 + 1 + all.len() as u64) * (layers as u64 + 4).pow(2);
    8 * (layers as u64 * held as u64 + parts)
        + median
        + threads() * scratch_bytes(rows, size(precision)) as u64
}

fn covariance(pairs: &Pairs, rows: usize, widths: &[usize], precision: Precision) -> u64 {
    let needed = pairs.needed();
    let area: u64 = needed
        .iter()
        .map(|&(i, j)| widths[i] as u64 * widths[j] as u64)
        .sum();
    let edges: u64 = needed
        .iter()
        .map(|&(i, j)| (widths[i] + widths[j] + 16) as u64)
        .sum();
    let all: u64 = widths.iter().map(|&width| width as u64 + 2).sum();
    let widest = widths.iter().max().copied().unwrap_or(0) as u64;
    let block = rows.min(RUN) as u64;
    let strip = match precision {
        Precision::Double => 0,
        Precision::Single => 4 * 256 * widest * threads(),
    };
    // One strip of a covariance is a piece of work in a list.
    let tasks = 48 * (area / (256 * widest.max(1)) + 2 * needed.len() as u64);
    8 * (area + edges + all)
        + block * (all * size(precision) as u64 + 8 * widths.len() as u64)
        + strip
        + tasks
}
