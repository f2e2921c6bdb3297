//! Where things are published and what is known about them.
//!
//! Sizes and hashes are those that torchvision, TensorFlow Datasets or several users of a file
//! publish; what none of them publishes is `None`.
//! They are never taken from a file that this crate has downloaded itself.

use std::path::Path;

use crate::{Asset, Format, Kind, KnownFile, RemoteFile, Source, Unpack};

/// Everything that can be asked for, data sets first.
pub fn catalogue() -> &'static [Asset] {
    &CATALOGUE
}

/// The asset of that name.
pub fn find(name: &str) -> Option<&'static Asset> {
    CATALOGUE.iter().find(|asset| asset.name == name)
}

/// The asset that a file of this name belongs to, or that is called like a folder of this name.
pub fn find_path(path: &Path) -> Option<&'static Asset> {
    let name = path.file_name()?.to_str()?;
    let holds = |asset: &&Asset| asset.known_files().any(|file| file.name == name);
    find(name).or_else(|| CATALOGUE.iter().find(holds))
}

/// A checkpoint of guided diffusion; the address holds the name, which is also that of the
/// architecture where this project knows it.
macro_rules! adm {
    ($name:literal, $what:literal) => {
        Asset {
            name: $name,
            title: concat!("Guided diffusion (ADM): ", $what),
            kind: Kind::Checkpoint,
            licence: ADM_LICENCE,
            source: Source::Files(&[RemoteFile {
                file: KnownFile {
                    name: concat!($name, ".pt"),
                    bytes: None,
                    sha256: None,
                    md5: None,
                },
                url: concat!(
                    "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/",
                    $name,
                    ".pt"
                ),
                unpack: None,
            }]),
            layout: ADM_LAYOUT,
        }
    };
}

/// The checkpoint of a network that diffusion features are compared with.
macro_rules! backbone {
    ($name:literal, $title:literal, $folder:literal, $file:literal, $licence:literal, $layout:literal) => {
        Asset {
            name: $name,
            title: $title,
            kind: Kind::Checkpoint,
            licence: $licence,
            source: Source::Files(&[RemoteFile {
                file: KnownFile {
                    name: $file,
                    bytes: None,
                    sha256: None,
                    md5: None,
                },
                url: concat!($folder, "/", $file),
                unpack: None,
            }]),
            layout: $layout,
        }
    };
}

/// One of the four files of Fashion-MNIST.
macro_rules! fashion_mnist {
    ($name:literal, $bytes:literal, $sha256:literal, $md5:literal) => {
        RemoteFile {
            file: KnownFile {
                name: $name,
                bytes: Some($bytes),
                sha256: Some($sha256),
                md5: Some($md5),
            },
            url: concat!(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                $name
            ),
            unpack: None,
        }
    };
}

static CATALOGUE: [Asset; 30] = [
    AIRCRAFT,
    CARS,
    CUB,
    DOGS,
    FLOWERS,
    NABIRDS,
    IMAGENET,
    IMAGENET_50,
    FASHION_MNIST,
    UNCOND_256,
    adm!("256x256_diffusion", "with class labels, 256x256 pixels"),
    adm!("512x512_diffusion", "with class labels, 512x512 pixels"),
    adm!("128x128_diffusion", "with class labels, 128x128 pixels"),
    adm!("64x64_diffusion", "with class labels, 64x64 pixels"),
    adm!(
        "256x256_classifier",
        "classifier of noised images, 256x256 pixels"
    ),
    adm!(
        "512x512_classifier",
        "classifier of noised images, 512x512 pixels"
    ),
    adm!(
        "128x128_classifier",
        "classifier of noised images, 128x128 pixels"
    ),
    adm!(
        "64x64_classifier",
        "classifier of noised images, 64x64 pixels"
    ),
    adm!("lsun_bedroom", "LSUN bedrooms, 256x256 pixels"),
    adm!("lsun_cat", "LSUN cats, 256x256 pixels"),
    adm!("lsun_horse", "LSUN horses, 256x256 pixels"),
    adm!(
        "lsun_horse_nodropout",
        "LSUN horses without dropout, 256x256 pixels"
    ),
    backbone!(
        "resnet50-0676ba61",
        "ResNet-50 of torchvision, trained with the labels of ImageNet (V1)",
        "https://download.pytorch.org/models",
        "resnet50-0676ba61.pth",
        "BSD-3-Clause, as the code in pytorch/vision",
        "one .pth file, a flat state dict"
    ),
    backbone!(
        "simclr_rn50_800ep",
        "ResNet-50 of SimCLR, 800 epochs, from the model zoo of VISSL",
        "https://dl.fbaipublicfiles.com/vissl/model_zoo/simclr_rn50_800ep_simclr_8node_resnet_16_07_20.7e8feed1",
        "model_final_checkpoint_phase799.torch",
        "MIT, as the code in facebookresearch/vissl",
        "one .torch file, the trunk under `classy_state_dict`"
    ),
    backbone!(
        "swav_800ep_pretrain",
        "ResNet-50 of SwAV, 800 epochs",
        "https://dl.fbaipublicfiles.com/deepcluster",
        "swav_800ep_pretrain.pth.tar",
        "CC BY-NC 4.0, as the code in facebookresearch/swav",
        "one file of PyTorch in spite of its name, a flat state dict behind `module.`"
    ),
    backbone!(
        "dino_vitbase16_pretrain",
        "ViT-B/16 of DINO",
        "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain",
        "dino_vitbase16_pretrain.pth",
        "Apache-2.0, as the code in facebookresearch/dino",
        "one .pth file, a flat state dict"
    ),
    backbone!(
        "mae_pretrain_vit_base",
        "ViT-B/16 of MAE",
        "https://dl.fbaipublicfiles.com/mae/pretrain",
        "mae_pretrain_vit_base.pth",
        "CC BY-NC 4.0, as the code in facebookresearch/mae",
        "one .pth file, the encoder under `model`"
    ),
    STABLE_DIFFUSION,
    FID_INCEPTION,
    FID_REFERENCE,
];

const AIRCRAFT: Asset = Asset {
    name: "aircraft",
    title: "FGVC-Aircraft (2013b)",
    kind: Kind::DataSet,
    licence: "non-commercial research only, as its page says",
    source: Source::Files(&[RemoteFile {
        file: md5(
            "fgvc-aircraft-2013b.tar.gz",
            "d4acdd33327262359767eeaa97a4f732",
        ),
        url: "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
        unpack: tar_gz(&["fgvc-aircraft-2013b"], 8 << 30),
    }]),
    layout: "fgvc-aircraft-2013b/data with images/ and the lists of variants and splits",
};

const CARS: Asset = Asset {
    name: "cars",
    title: "Stanford Cars (Cars-196)",
    kind: Kind::DataSet,
    licence: "research only; the page that stated the terms is gone",
    source: Source::ByHand {
        steps: &[
            "The original host (ai.stanford.edu/~jkrause) has not served this data set since 2023, so take a copy that someone keeps.",
            "Download the Kaggle data set rickyyyyyyy/torchvision-stanford-cars, which has the folders as below; or jessicali9530/stanford-cars-dataset, which has the images, and take the labels from the development kit, for its cars_annos.mat numbers them in another order.",
            "If only the label files are missing, the development kit is at https://github.com/pytorch/vision/files/11644847/car_devkit.tgz; https://github.com/pytorch/vision/issues/7545#issuecomment-1631441616 tells how others put the pieces together.",
            "Unpack everything into one folder so that it holds cars_train/00001.jpg to 08144.jpg, cars_test/00001.jpg to 08041.jpg, devkit/cars_meta.mat, devkit/cars_train_annos.mat and cars_test_annos_withlabels.mat.",
            "Never combine the label file of a six-digit numbering (car_ims/000001.jpg, cars_annos.mat) with images of the five-digit ones: they are different orders.",
        ],
        files: &[
            KnownFile {
                name: "cars_train.tgz",
                bytes: Some(979_269_282),
                sha256: Some("512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288"),
                md5: Some("065e5b463ae28d29e77c1b4b166cfe61"),
            },
            KnownFile {
                name: "cars_test.tgz",
                bytes: Some(977_350_468),
                sha256: Some("bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243"),
                md5: Some("4ce7ebf6a94d07f1952d94dd34c4d501"),
            },
            KnownFile {
                name: "car_devkit.tgz",
                bytes: Some(330_960),
                sha256: Some("b97deb463af7d58b6bfaa18b2a4de9829f0f79e8ce663dfa9261bf7810e9accd"),
                md5: Some("c3b158d763b6e2245038c8ad08e45376"),
            },
            KnownFile {
                name: "cars_test_annos_withlabels.mat",
                bytes: Some(185_758),
                sha256: Some("790f75be8ea34eeded134cc559332baf23e30e91367e9ddca97d26ed9b895f05"),
                md5: Some("b0a2b23655a3edd16d84508592a98d10"),
            },
        ],
    },
    layout: "cars_train/, cars_test/, devkit/ and cars_test_annos_withlabels.mat",
};

const CUB: Asset = Asset {
    name: "cub",
    title: "Caltech-UCSD Birds-200-2011",
    kind: Kind::DataSet,
    licence: "non-commercial research and education, as its page says",
    source: Source::Files(&[RemoteFile {
        file: KnownFile {
            name: "CUB_200_2011.tgz",
            bytes: Some(1_150_585_339),
            sha256: Some("0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081"),
            md5: Some("97eceeb196236b17998738112f37df78"),
        },
        url: "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",
        unpack: tar_gz(&["CUB_200_2011"], 4 << 30),
    }]),
    layout: "CUB_200_2011 with images/, images.txt, image_class_labels.txt and train_test_split.txt; attributes.txt beside it",
};

const DOGS: Asset = Asset {
    name: "dogs",
    title: "Stanford Dogs",
    kind: Kind::DataSet,
    licence: "the images are ImageNet's training images, whose terms (non-commercial research and education) apply",
    source: Source::Files(&[
        RemoteFile {
            file: KnownFile {
                name: "images.tar",
                bytes: Some(793_579_520),
                sha256: Some("a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58"),
                md5: Some("1bb1f2a596ae7057f99d7d75860002ef"),
            },
            url: "http://vision.stanford.edu/aditya86/ImageNetDogs/images.tar",
            unpack: tar(&["Images"], 1 << 30),
        },
        RemoteFile {
            file: KnownFile {
                name: "lists.tar",
                bytes: Some(481_280),
                sha256: Some("34b47cacd9a98b5d150e084f24d29391c084c55272295ec65c85651bc35f4d6c"),
                md5: Some("edbb9f16854ec66506b5f09b583e0656"),
            },
            url: "http://vision.stanford.edu/aditya86/ImageNetDogs/lists.tar",
            unpack: tar(
                &["file_list.mat", "train_list.mat", "test_list.mat"],
                1 << 20,
            ),
        },
    ]),
    layout: "Images/ with a folder for each breed; train_list.mat and test_list.mat beside it",
};

const FLOWERS: Asset = Asset {
    name: "flowers",
    title: "Oxford Flowers-102",
    kind: Kind::DataSet,
    licence: "none is stated; the images were gathered from the web",
    source: Source::Files(&[
        RemoteFile {
            file: KnownFile {
                name: "102flowers.tgz",
                bytes: Some(344_862_509),
                sha256: Some("2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246"),
                md5: Some("52808999861908f626f3c1f4e79d11fa"),
            },
            url: "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
            unpack: tar_gz(&["jpg"], 1 << 30),
        },
        RemoteFile {
            file: KnownFile {
                name: "imagelabels.mat",
                bytes: Some(502),
                sha256: Some("4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d"),
                md5: Some("e0620be6f572b9609742df49c70aed4d"),
            },
            url: "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/imagelabels.mat",
            unpack: None,
        },
        RemoteFile {
            file: KnownFile {
                name: "setid.mat",
                bytes: Some(14_989),
                sha256: Some("46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd"),
                md5: Some("a5357ecc9cb78c4bef273ce3793fc85c"),
            },
            url: "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/setid.mat",
            unpack: None,
        },
    ]),
    layout: "jpg/, imagelabels.mat and setid.mat",
};

const NABIRDS: Asset = Asset {
    name: "nabirds",
    title: "NABirds",
    kind: Kind::DataSet,
    licence: "the terms of use of the Cornell Lab of Ornithology, to which each user agrees in person",
    source: Source::ByHand {
        steps: &[
            "Open https://dl.allaboutbirds.org/nabirds in a browser, give an e-mail address and agree to the terms of use.",
            "Download nabirds.tar.gz (9.8 GB) with the link that you are given.",
            "Unpack it with `tar -xzf nabirds.tar.gz`, so that nabirds/images.txt exists.",
        ],
        files: &[md5("nabirds.tar.gz", "df21a9e4db349a14e2b08adfd45873bd")],
    },
    layout: "nabirds with images/, images.txt, image_class_labels.txt and train_test_split.txt",
};

const IMAGENET: Asset = Asset {
    name: "imagenet",
    title: "ImageNet-1k (ILSVRC 2012)",
    kind: Kind::DataSet,
    licence: "non-commercial research and education, to which each user agrees in person",
    source: Source::ByHand {
        steps: &[
            "Register at https://image-net.org with an address of a university or a company and agree to the terms.",
            "From the ILSVRC 2012 page download ILSVRC2012_img_train.tar (148 GB), ILSVRC2012_img_val.tar (6.7 GB) and ILSVRC2012_devkit_t12.tar.gz into one folder.",
            "Open that folder as it is: the archives are read in place, and the development kit tells the classes of the validation images. Class folders, Kaggle's tree and Hugging Face's Parquet files are read as well.",
        ],
        files: &[
            md5(
                "ILSVRC2012_img_train.tar",
                "1d675b47d978889d74fa0da5fadfb00e",
            ),
            md5("ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622"),
            md5(
                "ILSVRC2012_devkit_t12.tar.gz",
                "fa75699e90414af021442c21a62c3abf",
            ),
        ],
    },
    layout: "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, or train/ and val/ with a folder for each class, named by its WNID",
};

const IMAGENET_50: Asset = Asset {
    name: "imagenet-50",
    title: "ImageNet-50 (Van Gansbeke et al., SCAN)",
    kind: Kind::DataSet,
    licence: "that of ImageNet, of which it is a part",
    source: Source::ByHand {
        steps: &[
            "Get ImageNet as the steps of `imagenet` say; nothing else is published as an archive.",
            "Open it as ImageNet-50: that is all training images (64,274) and all validation images (2,500) of 50 of its classes, and no file has to be copied.",
        ],
        files: &[],
    },
    layout: "the folder of ImageNet",
};

const FASHION_MNIST: Asset = Asset {
    name: "fashion-mnist",
    title: "Fashion-MNIST",
    kind: Kind::DataSet,
    licence: "MIT, (c) 2017 Zalando SE",
    source: Source::Files(&[
        fashion_mnist!(
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d"
        ),
        fashion_mnist!(
            "train-labels-idx1-ubyte.gz",
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "25c81989df183df01b3e8a0aad5dffbe"
        ),
        fashion_mnist!(
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "bef4ecab320f06d8554ea6380940ec79"
        ),
        fashion_mnist!(
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "bb300cfdad3c16e7a12a480ee83cd310"
        ),
    ]),
    layout: "the four IDX files, still compressed, as the loader reads them",
};

/// The network of the paper, and the only checkpoint of its kind with a hash that many have
/// published: 552,814,086 parameters of 4 bytes and the container around them.
const UNCOND_256: Asset = Asset {
    name: "256x256_diffusion_uncond",
    title: "Guided diffusion (ADM): without class labels, 256x256 pixels",
    kind: Kind::Checkpoint,
    licence: ADM_LICENCE,
    source: Source::Files(&[RemoteFile {
        file: KnownFile {
            name: "256x256_diffusion_uncond.pt",
            bytes: Some(2_211_383_297),
            sha256: Some("a37c32fffd316cd494cf3f35b339936debdc1576dad13fe57c42399a5dbc78b1"),
            md5: None,
        },
        url: "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion_uncond.pt",
        unpack: None,
    }]),
    layout: ADM_LAYOUT,
};

/// The paper does not say which Stable Diffusion its Table 4 reads. This one's first repository was
/// withdrawn, and a copy keeps its name.
const STABLE_DIFFUSION: Asset = Asset {
    name: "stable-diffusion-v1-5",
    title: "Stable Diffusion 1.5, a folder as diffusers writes it",
    kind: Kind::Checkpoint,
    licence: "CreativeML Open RAIL-M, to which each user agrees",
    source: Source::ByHand {
        steps: &[
            "Read the licence at https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5, a copy of the repository that was withdrawn.",
            "Download the folders unet, vae, text_encoder, tokenizer and scheduler with model_index.json, for instance with `huggingface-cli download stable-diffusion-v1-5/stable-diffusion-v1-5 --local-dir stable-diffusion-v1-5`; weights in halves (fp16) will do.",
            "Look at what came with `diffrep inspect stable-diffusion-v1-5`.",
        ],
        files: &[],
    },
    layout: "unet/, vae/, text_encoder/, tokenizer/ and scheduler/, each with its configuration",
};

/// The name holds the first digits of the hash; the rest is not published.
const FID_INCEPTION: Asset = Asset {
    name: "pt_inception-2015-12-05-6726825d",
    title: "Inception-v3 of FID, as pytorch-fid publishes it",
    kind: Kind::Checkpoint,
    licence: "Apache 2.0, as the code in mseitzer/pytorch-fid",
    source: Source::Files(&[RemoteFile {
        file: KnownFile {
            name: "pt_inception-2015-12-05-6726825d.pth",
            bytes: None,
            sha256: None,
            md5: None,
        },
        url: "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        unpack: None,
    }]),
    layout: "one .pth file, a flat state dict",
};

/// What the authors of guided diffusion compare images of 256 pixels with.
const FID_REFERENCE: Asset = Asset {
    name: "VIRTUAL_imagenet256_labeled",
    title: "Guided diffusion (ADM): 10,000 images of ImageNet at 256x256 pixels, with statistics for FID",
    kind: Kind::DataSet,
    licence: "the images are ImageNet's, whose terms (non-commercial research and education) apply",
    source: Source::Files(&[RemoteFile {
        file: KnownFile {
            name: "VIRTUAL_imagenet256_labeled.npz",
            bytes: None,
            sha256: None,
            md5: None,
        },
        url: "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet/256/VIRTUAL_imagenet256_labeled.npz",
        unpack: None,
    }]),
    layout: "one .npz file: arr_0 (images), mu, sigma, mu_s and sigma_s",
};

const ADM_LICENCE: &str = "MIT, as the code in openai/guided-diffusion; its model card says what the networks are meant for";
const ADM_LAYOUT: &str = "one .pt file, a flat state dict";

/// A file of which only the MD5 is published.
const fn md5(name: &'static str, md5: &'static str) -> KnownFile {
    KnownFile {
        name,
        bytes: None,
        sha256: None,
        md5: Some(md5),
    }
}

/// The limit stands well above what the archive is known to hold.
const fn tar(yields: &'static [&'static str], max_bytes: u64) -> Option<Unpack> {
    Some(Unpack {
        format: Format::Tar,
        yields,
        max_bytes,
    })
}

/// As [`tar`].
const fn tar_gz(yields: &'static [&'static str], max_bytes: u64) -> Option<Unpack> {
    Some(Unpack {
        format: Format::TarGz,
        yields,
        max_bytes,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn is_hex(text: &str, digits: usize) -> bool {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }

    #[test]
    fn every_data_set_of_the_paper_is_there() {
        for name in [
            "aircraft",
            "cars",
            "cub",
            "dogs",
            "flowers",
            "nabirds",
            "imagenet",
            "imagenet-50",
        ] {
            assert_eq!(find(name).unwrap().kind, Kind::DataSet, "{name}");
        }
        assert_eq!(find("Aircraft"), None);
    }

    #[test]
    fn a_path_tells_what_is_to_be_fetched() {
        let found = |path: &str| find_path(Path::new(path)).map(|asset| asset.name);
        assert_eq!(found("data/cub"), Some("cub"));
        assert_eq!(
            found("checkpoints/256x256_diffusion_uncond.pt"),
            Some("256x256_diffusion_uncond")
        );
        assert_eq!(
            found("weights/swav_800ep_pretrain.pth.tar"),
            Some("swav_800ep_pretrain")
        );
        assert_eq!(
            found("checkpoints/stable-diffusion-v1-5"),
            Some("stable-diffusion-v1-5")
        );
        assert_eq!(found("my.pt"), None);
    }

    #[test]
    fn names_and_files_are_unique() {
        let mut names = HashSet::new();
        for asset in catalogue() {
            assert!(names.insert(asset.name), "{}", asset.name);
            let files: Vec<_> = asset.known_files().map(|file| file.name).collect();
            let unique: HashSet<_> = files.iter().collect();
            assert_eq!(unique.len(), files.len(), "{}", asset.name);
        }
    }

    #[test]
    fn what_cannot_be_downloaded_has_steps() {
        for asset in catalogue() {
            assert_ne!(asset.steps().is_empty(), asset.downloads().is_empty());
            for step in asset.steps() {
                assert!(step.ends_with('.'), "{step}");
            }
            assert!(!asset.licence.is_empty() && !asset.layout.is_empty());
        }
    }

    #[test]
    fn hashes_are_well_formed_and_plain_http_needs_one() {
        let mut hashes = HashSet::new();
        for asset in catalogue() {
            for file in asset.known_files() {
                assert!(file.sha256.is_none_or(|hash| is_hex(hash, 64)), "{file:?}");
                assert!(file.md5.is_none_or(|hash| is_hex(hash, 32)), "{file:?}");
                // The same hash twice is a slip of copying.
                for hash in file.sha256.iter().chain(&file.md5) {
                    assert!(hashes.insert(*hash), "{hash}");
                }
            }
            for remote in asset.downloads() {
                let path = remote.url.split('?').next().unwrap();
                assert!(
                    path.ends_with(&format!("/{}", remote.file.name)),
                    "{}",
                    remote.url
                );
                let is_https = remote.url.starts_with("https://");
                assert!(is_https || remote.file.sha256.is_some(), "{}", remote.url);
            }
        }
    }

    #[test]
    fn archives_say_what_they_yield() {
        for remote in catalogue().iter().flat_map(Asset::downloads) {
            let name = remote.file.name;
            // PyTorch users call their own files `.pth.tar`.
            let is_tar = name.ends_with(".tar") && !name.ends_with(".pth.tar");
            let is_tar_gz = name.ends_with(".tar.gz") || name.ends_with(".tgz");
            let format = remote.unpack.map(|plan| plan.format);
            assert_eq!(format == Some(Format::Tar), is_tar, "{name}");
            assert_eq!(format == Some(Format::TarGz), is_tar_gz, "{name}");
            if let Some(plan) = remote.unpack {
                assert!(!plan.yields.is_empty(), "{name}");
                assert!(
                    remote.file.bytes.is_none_or(|bytes| bytes < plan.max_bytes),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn sizes_add_up_where_all_are_known() {
        assert_eq!(find("flowers").unwrap().download_bytes(), Some(344_878_000));
        assert_eq!(find("aircraft").unwrap().download_bytes(), None);
        assert_eq!(find("imagenet").unwrap().download_bytes(), Some(0));
        // The weights alone have this many bytes; the container adds little.
        let checkpoint = find("256x256_diffusion_uncond").unwrap();
        let container = checkpoint.download_bytes().unwrap() - 552_814_086 * 4;
        assert!(container < 1 << 20, "{container}");
    }
}
