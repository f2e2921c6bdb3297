//! Samples and crops against those of Pillow and torchvision; see `fixtures/preprocess/README.md`.

use std::fs;
use std::path::{Path, PathBuf};

use diffrep_datasets::{
    CropBox, DatasetError, Filter, Image, JpegDecoder, Normalise, RandomCrop, RandomResizedCrop,
    center_crop, center_crop_or_pad, decode, decode_with, resize_center_crop, resize_short_side,
};
use safetensors::SafeTensors;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/preprocess")
}

fn decoded(file: &str) -> Image {
    let path = fixtures().join(file);
    decode(&path, &fs::read(&path).unwrap()).unwrap()
}

/// Calls `check` with the name, shape and bytes of each tensor in a file, and says how many there are.
fn each_tensor(file: &str, mut check: impl FnMut(&str, &[usize], &[u8])) -> usize {
    let bytes = fs::read(fixtures().join(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for (name, tensor) in tensors.iter() {
        check(name, tensor.shape(), tensor.data());
    }
    tensors.len()
}

fn assert_same(image: &Image, name: &str, shape: &[usize], expected: &[u8]) {
    let ours = image.to_rgb();
    assert_eq!([ours.height(), ours.width(), 3], shape, "{name}");
    let pairs = ours.pixels().iter().zip(expected);
    let wrong = pairs.filter(|(ours, theirs)| ours != theirs).count();
    assert_eq!(
        wrong,
        0,
        "{name}: {wrong} of {} samples differ",
        expected.len()
    );
}

#[test]
fn all_center_crops_have_the_bits_of_pillow() {
    let count = each_tensor("center_crop.safetensors", |name, shape, expected| {
        let (stem, size) = name.rsplit_once(".crop").unwrap();
        let file = if stem.contains('.') {
            stem.to_owned()
        } else {
            format!("{stem}.png")
        };
        let crop = center_crop(&decoded(&file), size.parse().unwrap());
        assert_same(&crop, name, shape, expected);
    });
    assert_eq!(count, 2 * 15, "two sizes of 15 images");
}

#[test]
fn every_kind_of_file_has_the_samples_of_pillow() {
    let bytes = fs::read(fixtures().join("decode.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (mut same, mut refused) = (0, 0);
    for name in tensors.names() {
        let Some(case) = name.strip_suffix(".file") else {
            continue;
        };
        let result = decode(Path::new(case), tensors.tensor(name).unwrap().data());
        if case.starts_with("refused_") {
            let error = result.expect_err(case);
            assert!(error.to_string().contains(case), "{error}");
            refused += 1;
            continue;
        }
        let expected = tensors.tensor(&format!("{case}.rgb")).unwrap();
        assert_same(
            &result.expect(case),
            case,
            expected.shape(),
            expected.data(),
        );
        same += 1;
    }
    assert_eq!((same, refused), (39, 5));
}

#[test]
fn the_approximate_decoder_stays_within_a_few_levels() {
    for (file, bound) in [
        ("jpg_420.jpg", 6),
        ("jpg_422.jpg", 6),
        ("jpg_grey.jpg", 1),
        ("jpg_cmyk.jpg", 4),
    ] {
        let path = fixtures().join(file);
        let bytes = fs::read(&path).unwrap();
        let approximate = decode_with(JpegDecoder::Approximate, &path, &bytes).unwrap();
        let exact = decoded(file);
        let pairs = approximate.pixels().iter().zip(exact.pixels());
        let worst = pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst > 0, "{file}: a decoder that is exact needs no name");
        assert!(
            worst <= bound,
            "{file}: {worst} levels, at most {bound} expected"
        );
    }
}

#[test]
fn resizes_and_crops_have_the_bits_of_torchvision() {
    let mut kinds = [0; 4];
    each_tensor("transforms.safetensors", |name, shape, expected| {
        let case = Case::new(name);
        let (kind, image) = match case.kind {
            "eval" => {
                let [resize] = case.numbers();
                let image = decoded(&case.file);
                let ours = resize_center_crop(&image, resize, case.filter(), 64);
                let in_two_steps = resize_short_side(&image, resize, case.filter());
                assert_eq!(center_crop_or_pad(&in_two_steps, 64), ours, "{name}");
                (0, ours)
            }
            "box" => {
                let [left, top, width, height] = case.numbers();
                let crop = CropBox {
                    left,
                    top,
                    width,
                    height,
                };
                let random = RandomResizedCrop {
                    filter: case.filter(),
                    ..RandomResizedCrop::default()
                };
                (1, random.apply(&decoded(&case.file), crop, 64))
            }
            "random" => {
                let [short_side, left, top] = case.numbers();
                let crop = RandomCrop {
                    short_side,
                    left,
                    top,
                };
                (2, crop.apply(&decoded(&case.file), 64))
            }
            "center" => {
                let [width, height] = case.numbers();
                let corner = CropBox {
                    left: 0,
                    top: 0,
                    width,
                    height,
                };
                let image = decoded("04_200x150.png").crop(corner);
                (3, center_crop_or_pad(&image, 64))
            }
            _ => return,
        };
        assert_same(&image, name, shape, expected);
        kinds[kind] += 1;
    });
    assert_eq!(kinds, [24, 32, 16, 3]);
}

/// The name of a tensor, taken apart: a kind, perhaps a file, numbers, perhaps a filter.
struct Case<'a> {
    kind: &'a str,
    file: String,
    numbers: Vec<usize>,
    filter: Option<Filter>,
}

impl<'a> Case<'a> {
    fn new(name: &'a str) -> Self {
        let mut parts = name.split('.');
        let mut case = Self {
            kind: parts.next().unwrap(),
            file: String::new(),
            numbers: Vec::new(),
            filter: None,
        };
        for part in parts {
            match part {
                "png" => case.file += ".png",
                "bilinear" => case.filter = Some(Filter::Bilinear),
                "bicubic" => case.filter = Some(Filter::Bicubic),
                _ => match part.parse() {
                    Ok(number) => case.numbers.push(number),
                    Err(_) => case.file += part,
                },
            }
        }
        case
    }

    fn numbers<const COUNT: usize>(&self) -> [usize; COUNT] {
        self.numbers.clone().try_into().unwrap()
    }

    fn filter(&self) -> Filter {
        self.filter.unwrap()
    }
}

#[test]
fn normalised_samples_have_the_bits_of_torchvision() {
    let mut count = 0;
    each_tensor("transforms.safetensors", |name, shape, expected| {
        let Some(name) = name.strip_prefix("normalise.") else {
            return;
        };
        assert_eq!(shape, [3, 256]);
        let normalise: Normalise = serde_json::from_value(name.into()).unwrap();
        for (position, bits) in expected.as_chunks::<4>().0.iter().enumerate() {
            let (channel, sample) = (position / 256, position % 256);
            let ours = normalise.value(channel, sample as u8);
            assert_eq!(ours.to_le_bytes(), *bits, "{name} {channel} {sample}");
        }
        count += 1;
    });
    assert_eq!(count, 4);
}

/// A PNG file whose header claims 60000x60000 pixels, and which has no pixels.
fn absurd_png() -> Vec<u8> {
    let mut bytes = Vec::new();
    png_header(&mut bytes, 60_000);
    bytes.extend_from_slice(&chunk(b"IDAT", &[]));
    bytes.extend_from_slice(&chunk(b"IEND", &[]));
    bytes
}

fn png_header(bytes: &mut Vec<u8>, side: u32) {
    bytes.extend_from_slice(b"\x89PNG\r\n\x1a\n");
    let mut header = Vec::new();
    header.extend_from_slice(&side.to_be_bytes());
    header.extend_from_slice(&side.to_be_bytes());
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    bytes.extend_from_slice(&chunk(b"IHDR", &header));
}

fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(body);
    let length = (body.len() as u32).to_be_bytes();
    [&length, &kind[..], body, &crc.sum().to_be_bytes()].concat()
}

/// A JPEG file whose frame header is changed to claim a size.
fn claiming_jpeg(side: u16) -> Vec<u8> {
    let mut bytes = fs::read(fixtures().join("jpg_420.jpg")).unwrap();
    let frame = bytes
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    // The marker, a length and the precision come first.
    bytes[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
    bytes
}

#[test]
fn absurd_sizes_are_refused_by_a_limit_with_a_name() {
    for bytes in [absurd_png(), claiming_jpeg(60_000)] {
        for decoder in [JpegDecoder::Exact, JpegDecoder::Approximate] {
            let error = decode_with(decoder, Path::new("huge"), &bytes).unwrap_err();
            assert!(
                matches!(error, DatasetError::TooManyPixels { .. }),
                "{error:?}"
            );
            let said = error.to_string();
            for part in ["huge", "60000x60000", "MAX_PIXELS", "178956970"] {
                assert!(said.contains(part), "{said}");
            }
        }
    }
}

#[test]
fn sizes_that_the_bytes_cannot_fill_are_refused() {
    let mut small = Vec::new();
    png_header(&mut small, 13_000);
    small.extend_from_slice(&chunk(b"IDAT", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]));
    small.extend_from_slice(&chunk(b"IEND", &[]));
    // 52 kB could describe 430 million pixels, so this JPEG file is cut down first.
    let jpeg = claiming_jpeg(13_000);
    let scan = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xda])
        .unwrap();
    let headers = [&jpeg[..scan + 64], &[0xff, 0xd9]].concat();
    for bytes in [small, headers] {
        let error = decode(Path::new("empty"), &bytes).unwrap_err();
        assert!(
            matches!(error, DatasetError::ImplausibleSize { .. }),
            "{error:?}"
        );
    }
}
