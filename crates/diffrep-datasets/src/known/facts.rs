//! Numbers, names and addresses: Table 5 of the paper as data.

use super::KnownDataset;

pub(super) struct Facts {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) source: &'static str,
    pub(super) classes: usize,
    pub(super) train: Part,
    pub(super) test: Part,
}

/// An official split.
pub(super) struct Part {
    pub(super) images: usize,
    /// Images of each class, where all classes have the same number.
    pub(super) per_class: Option<usize>,
}

const fn part(images: usize) -> Part {
    let per_class = None;
    Part { images, per_class }
}

const fn even(images: usize, per_class: usize) -> Part {
    let per_class = Some(per_class);
    Part { images, per_class }
}

impl KnownDataset {
    pub(super) fn facts(self) -> Facts {
        match self {
            Self::Aircraft => Facts {
                name: "aircraft",
                title: "FGVC-Aircraft (variants)",
                source: "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
                classes: 100,
                train: part(6_667),
                test: part(3_333),
            },
            Self::Cars => Facts {
                name: "cars",
                title: "Stanford Cars",
                source: "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
                classes: 196,
                train: part(8_144),
                test: part(8_041),
            },
            Self::Cub => Facts {
                name: "cub",
                title: "CUB-200-2011",
                source: "https://data.caltech.edu/records/65de6-vp158",
                classes: 200,
                train: part(5_994),
                test: part(5_794),
            },
            Self::Dogs => Facts {
                name: "dogs",
                title: "Stanford Dogs",
                source: "http://vision.stanford.edu/aditya86/ImageNetDogs/",
                classes: 120,
                train: even(12_000, 100),
                test: part(8_580),
            },
            Self::Flowers => Facts {
                name: "flowers",
                title: "Oxford Flowers-102",
                source: "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
                classes: 102,
                train: even(2_040, 20),
                test: part(6_149),
            },
            Self::NaBirds => Facts {
                name: "nabirds",
                title: "NABirds",
                source: "https://dl.allaboutbirds.org/nabirds",
                classes: 555,
                train: part(23_929),
                test: part(24_633),
            },
            Self::ImageNet => Facts {
                name: "imagenet",
                title: "ImageNet (ILSVRC2012)",
                source: "https://image-net.org/challenges/LSVRC/2012/",
                classes: 1_000,
                train: part(1_281_167),
                test: even(50_000, 50),
            },
            Self::ImageNet50 => Facts {
                name: "imagenet-50",
                title: "ImageNet-50",
                source: "https://github.com/wvangansbeke/Unsupervised-Classification",
                classes: 50,
                train: part(64_274),
                test: even(2_500, 50),
            },
            Self::FashionMnist => Facts {
                name: "fashion-mnist",
                title: "Fashion-MNIST",
                source: "https://github.com/zalandoresearch/fashion-mnist",
                classes: 10,
                train: even(60_000, 6_000),
                test: even(10_000, 1_000),
            },
        }
    }
}
