//! Networks with random weights: the control that asks what training added.

use std::collections::HashMap;

use burn::tensor::{Device, TensorData};
use diffrep_rng::{Key, Stream};

use crate::config::{ClassifierPool, ConfigError, Kind, UNetConfig};
use crate::{UNet, named_tensors, with_state_dict};

/// A network in which every layer has PyTorch's default initialisation, the layers that a
/// training would start at zero included: with those at zero a residual block would pass its input
/// on unchanged and the control would be crippled. Weights are a function of (seed, parameter)
/// alone.
///
/// # Errors
///
/// When the configuration does not fit together.
pub fn random_network(
    config: &UNetConfig,
    seed: u64,
    device: &Device,
) -> Result<UNet, ConfigError> {
    let network = config.init(device)?;
    let parameters = named_tensors(&network);
    let shapes: HashMap<&str, &[usize]> = parameters
        .iter()
        .map(|p| (p.key.as_str(), p.shape.as_slice()))
        .collect();
    let places: HashMap<&str, u64> = parameters
        .iter()
        .zip(0..)
        .map(|(p, i)| (p.key.as_str(), i))
        .collect();
    Ok(with_state_dict(network, |key| {
        let shape = shapes[key];
        let count = shape.iter().product();
        let weight = match key.strip_suffix("bias") {
            Some(prefix) => shapes[format!("{prefix}weight").as_str()],
            None => shape,
        };
        let draw = Key::new(seed, Stream::Init).sample(places[key]);
        let values: Vec<f32> = match weight.len() {
            // A normalisation: the identity.
            1 => vec![if key.ends_with("bias") { 0.0 } else { 1.0 }; count],
            // Embeddings are normal, as in PyTorch.
            _ if key == "label_emb.weight" || key.ends_with("positional_embedding") => {
                let mut values = vec![0.0; count];
                draw.fill_normal(&mut values);
                values
            }
            _ => {
                let fan_in: usize = weight[1..].iter().product();
                let bound = 1.0 / (fan_in as f64).sqrt();
                let mut generator = draw.generator();
                (0..count)
                    .map(|_| ((2.0 * generator.uniform() - 1.0) * bound) as f32)
                    .collect()
            }
        };
        Some(TensorData::new(values, shape.to_vec()))
    }))
}

/// A network as a training starts it: as [`random_network`], with the last layer of each residual
/// and attention block and of the output map at zero, as the reference does.
///
/// # Errors
///
/// When the configuration does not fit together.
pub fn initial_network(
    config: &UNetConfig,
    seed: u64,
    device: &Device,
) -> Result<UNet, ConfigError> {
    let network = random_network(config, seed, device)?;
    let shapes: HashMap<String, Vec<usize>> = named_tensors(&network)
        .into_iter()
        .map(|parameter| (parameter.key, parameter.shape))
        .collect();
    let head = match config.kind {
        Kind::UNet => Some("out.2."),
        Kind::Encoder(ClassifierPool::Adaptive) => Some("out.3."),
        Kind::Encoder(_) => None,
    };
    Ok(with_state_dict(network, |key| {
        let last = key.contains(".out_layers.3.")
            || key.contains(".proj_out.")
            || head.is_some_and(|head| key.starts_with(head));
        last.then(|| {
            let shape = shapes[key].clone();
            TensorData::new(vec![0.0f32; shape.iter().product()], shape)
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_dict;

    #[test]
    fn no_convolution_is_left_at_zero_and_seeds_differ() {
        let device = Device::flex();
        let dict = |seed| state_dict(&random_network(&UNetConfig::mini(), seed, &device).unwrap());
        let (first, again, other) = (dict(1), dict(1), dict(2));
        for (((key, a), (_, b)), (_, c)) in first.iter().zip(&again).zip(&other) {
            let [a, b, c] = [a, b, c].map(|data| data.try_to_vec::<f32>().unwrap());
            assert_eq!(a, b, "{key}");
            if a.len() > 32 && key.ends_with("weight") && !key.contains("norm") && a[0] != 1.0 {
                assert!(a.iter().any(|v| *v != 0.0), "{key}");
                assert_ne!(a, c, "{key}");
            }
        }
    }
}
