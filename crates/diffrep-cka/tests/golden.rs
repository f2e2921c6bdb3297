//! CKA against values of NumPy in f64 (fixtures/golden/README.md).

use std::collections::BTreeMap;

use diffrep_cka::*;
use ndarray::Array2;
use safetensors::SafeTensors;

fn path(name: &str) -> String {
    format!(
        "{}/../../fixtures/golden/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

fn features() -> BTreeMap<String, Array2<f64>> {
    let bytes = std::fs::read(path("cka.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let matrix = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let shape: [usize; 2] = view.shape().try_into().unwrap();
        let bytes = view.data().chunks_exact(8);
        let values = bytes
            .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
            .collect();
        (name, Array2::from_shape_vec(shape, values).unwrap())
    };
    file.tensors().into_iter().map(matrix).collect()
}

fn expected(name: &str) -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(path(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The golden sums and ours are f64 sums in different orders; the worst cancellation, of unbiased X-Z,
/// costs three digits.
const TOLERANCE: f64 = 1e-9;

fn check(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs();
    assert!(
        error <= tolerance,
        "{what}: {found} instead of {expected} ({error:e})"
    );
}

#[test]
fn all_estimators_agree_with_numpy_on_both_paths() {
    let (features, expected) = (features(), expected("cka.json"));
    for (name, estimator) in [
        ("biased", Estimator::Biased),
        ("unbiased", Estimator::Unbiased),
        ("minibatch60", Estimator::Minibatch { rows: 60 }),
    ] {
        for path in [Path::Auto, Path::Gram, Path::Covariance] {
            for pair in ["XY", "XZ", "YZ", "XX"] {
                let options = Options {
                    path,
                    ..Options::new(estimator)
                };
                let found = cka(
                    features[&pair[..1]].view(),
                    features[&pair[1..]].view(),
                    &options,
                )
                .unwrap();
                let what = format!("{name}.{pair} {path:?}");
                check(found, expected[&format!("{name}.{pair}")], TOLERANCE, &what);
            }
        }
    }
}

#[test]
fn rbf_and_neighbours_agree_with_numpy() {
    let features = features();
    for (key, expected) in expected("cka_kernels.json") {
        let (measure, pair) = key.rsplit_once('.').unwrap();
        let (x, y) = (&features[&pair[..1]], &features[&pair[1..]]);
        let found = match measure.strip_prefix("rbf") {
            Some(rbf) => {
                let (fraction, estimator) = rbf.rsplit_once('.').unwrap();
                let options = Options {
                    kernel: Kernel::Rbf {
                        fraction: fraction.parse().unwrap(),
                    },
                    ..Options::new(if estimator == "biased" {
                        Estimator::Biased
                    } else {
                        Estimator::Unbiased
                    })
                };
                cka(x.view(), y.view(), &options).unwrap()
            }
            None => {
                let (alignment, k) = match measure.strip_prefix("cknna") {
                    Some(k) => (Alignment::Cknna, k),
                    None => (
                        Alignment::MutualKnn,
                        measure.strip_prefix("mutual_knn").unwrap(),
                    ),
                };
                let (x, y) = ([Layer::new("x", x.view())], [Layer::new("y", y.view())]);
                let k = k.parse().unwrap();
                align_between(&x, &y, alignment, k, Precision::Double)
                    .unwrap()
                    .values[[0, 0]]
            }
        };
        check(found, expected, TOLERANCE, &key);
    }
}
