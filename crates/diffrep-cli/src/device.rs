//! Which backend runs the networks. The one place, with `diffrep-ops`, that names backends.

#[cfg(any(test, feature = "cuda", feature = "tch"))]
mod driver;

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use burn::tensor::Device;

/// A device as the user writes it: `flex`, `cuda`, `cuda:1`, `tch`, `tch-cuda:0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceSpec {
    /// burn's CPU backend.
    Flex,
    /// An NVIDIA GPU by index.
    Cuda(usize),
    /// libtorch on the CPU.
    Tch,
    /// libtorch on an NVIDIA GPU.
    TchCuda(usize),
}

impl FromStr for DeviceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, index) = match text.split_once(':') {
            None => (text, 0),
            Some((name, index)) => (
                name,
                index
                    .parse()
                    .map_err(|_| format!("`{index}` is not a device index"))?,
            ),
        };
        match name {
            "flex" | "cpu" => Ok(Self::Flex),
            "cuda" => Ok(Self::Cuda(index)),
            "tch" => Ok(Self::Tch),
            "tch-cuda" => Ok(Self::TchCuda(index)),
            _ => Err("known devices are flex, cuda:N, tch and tch-cuda:N".into()),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flex => write!(f, "flex"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Tch => write!(f, "tch"),
            Self::TchCuda(index) => write!(f, "tch-cuda:{index}"),
        }
    }
}

impl DeviceSpec {
    /// How many micro-batches are worth computing side by side: one a processor on a CPU.
    pub(crate) fn workers(self) -> usize {
        match self {
            Self::Flex => std::thread::available_parallelism().map_or(1, usize::from),
            _ => 1,
        }
    }

    /// The device of a worker that is `count` places after this one's: the next GPU, or the same processor.
    pub(crate) fn beside(self, count: usize) -> Self {
        match self {
            Self::Cuda(index) => Self::Cuda(index + count),
            Self::TchCuda(index) => Self::TchCuda(index + count),
            Self::Flex | Self::Tch => self,
        }
    }

    /// The burn device, or one sentence on how to get a binary that has it or on what the machine lacks.
    pub(crate) fn open(self) -> Result<Device> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => driver::check(self, index).map(|()| Device::cuda(index)),
            #[cfg(feature = "tch")]
            #[allow(deprecated, reason = "burn-tch is offered for comparison only")]
            Self::Tch => Ok(Device::libtorch()),
            #[cfg(feature = "tch")]
            #[allow(deprecated, reason = "burn-tch is offered for comparison only")]
            Self::TchCuda(index) => {
                driver::check(self, index).map(|()| Device::libtorch_cuda(index))
            }
            #[allow(unreachable_patterns, reason = "reached where a backend is left out")]
            _ => Err(anyhow::anyhow!(
                "device `{self}` is not compiled into this binary: rebuild it with `--features {}`",
                match self {
                    Self::Flex => "flex",
                    Self::Cuda(_) => "cuda",
                    Self::Tch | Self::TchCuda(_) => "tch",
                }
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for text in ["flex", "cuda:0", "cuda:3", "tch", "tch-cuda:1"] {
            assert_eq!(text.parse::<DeviceSpec>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceSpec::Cuda(0)));
        assert!("gpu".parse::<DeviceSpec>().unwrap_err().contains("cuda:N"));
        assert!(
            "cuda:x"
                .parse::<DeviceSpec>()
                .unwrap_err()
                .contains("not a device index")
        );
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_left_out_is_named_with_its_feature() {
        let message = DeviceSpec::Cuda(0).open().unwrap_err().to_string();
        assert!(message.contains("--features cuda"), "{message}");
    }
}
