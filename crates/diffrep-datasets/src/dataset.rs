//! A labelled set of images, held in memory or decoded when asked for.

use std::path::PathBuf;
use std::sync::Arc;

use diffrep_artifact::Sha256Hex;
use serde::{Deserialize, Serialize};

use crate::content::Seen;
pub(crate) use crate::source::Source;
use crate::{DatasetError, Image, KnownDataset, Partial};

/// The part of a data set that a sample belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For fitting parameters.
    Train,
    /// For choosing settings.
    Validation,
    /// For the number that is reported, once.
    Test,
}

impl Split {
    /// All splits, in the order in which they are used.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];
}

impl std::fmt::Display for Split {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

/// Images of one size held in memory, in `[count, height, width, channels]` order.
#[derive(Clone)]
pub struct Pixels {
    /// Rows of each image.
    pub height: usize,
    /// Columns of each image.
    pub width: usize,
    /// 1 for grey, 3 for colour.
    pub channels: usize,
    /// All samples.
    pub data: Vec<u8>,
}

impl Pixels {
    fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn of(&self, row: usize) -> &[u8] {
        &self.data[row * self.image_len()..][..self.image_len()]
    }

    /// One of the images.
    pub(crate) fn image(&self, row: usize) -> Image {
        Image::new(
            self.width,
            self.height,
            self.channels,
            self.of(row).to_vec(),
        )
    }

    /// A hash of the shape and of the images in the given rows.
    pub(crate) fn hash(&self, rows: &[usize]) -> Sha256Hex {
        let shape = [self.height, self.width, self.channels];
        let mut bytes: Vec<u8> = shape
            .iter()
            .flat_map(|&size| (size as u64).to_le_bytes())
            .collect();
        for &row in rows {
            bytes.extend_from_slice(self.of(row));
        }
        Sha256Hex::hash_bytes(&bytes)
    }
}

/// One split of a data set: images with a label and a stable identity each.
///
/// Cloning is cheap, and subsets share the images with the whole.
#[derive(Clone)]
pub struct Dataset {
    split: Split,
    class_names: Arc<[String]>,
    labels: Vec<u32>,
    ids: Vec<u64>,
    rows: Vec<usize>,
    source: Arc<Source>,
    seen: Arc<Seen>,
    origin: Option<Arc<Origin>>,
}

/// What is known of a data set beyond its samples, because it was opened as a known one.
pub(crate) struct Origin {
    pub(crate) known: KnownDataset,
    pub(crate) class_ids: Vec<String>,
    pub(crate) partial: Option<Partial>,
}

impl Dataset {
    /// Makes a data set of images in memory, for synthetic data and tests.
    ///
    /// # Panics
    ///
    /// If the lengths disagree, an id occurs twice, or a label is not below the number of class names.
    pub fn from_pixels(
        split: Split,
        class_names: Vec<String>,
        labels: Vec<u32>,
        ids: Vec<u64>,
        pixels: Pixels,
    ) -> Self {
        assert_eq!(
            pixels.data.len(),
            labels.len() * pixels.image_len(),
            "pixels and labels disagree"
        );
        assert_eq!(duplicate(&ids), None, "an id occurs twice");
        Self::from_parts(
            split,
            class_names.into(),
            labels,
            ids,
            Source::Memory(pixels),
        )
    }

    pub(crate) fn from_parts(
        split: Split,
        class_names: Arc<[String]>,
        labels: Vec<u32>,
        ids: Vec<u64>,
        source: Source,
    ) -> Self {
        assert_eq!(labels.len(), ids.len(), "labels and ids disagree");
        let classes = class_names.len();
        assert!(
            labels.iter().all(|&label| (label as usize) < classes),
            "a label has no class name"
        );
        Self {
            split,
            class_names,
            rows: (0..labels.len()).collect(),
            labels,
            ids,
            source: Arc::new(source),
            seen: Arc::default(),
            origin: None,
        }
    }

    /// The same images as a known data set.
    pub(crate) fn with_origin(self, origin: Origin) -> Self {
        let origin = Some(Arc::new(origin));
        Self { origin, ..self }
    }

    /// The samples at the given positions with other labels, class names and split.
    pub(crate) fn relabelled(
        &self,
        split: Split,
        kept: &[(usize, u32)],
        class_names: Arc<[String]>,
    ) -> Self {
        let positions: Vec<usize> = kept.iter().map(|(position, _)| *position).collect();
        Self {
            split,
            class_names,
            labels: kept.iter().map(|(_, label)| *label).collect(),
            ..self.subset(&positions)
        }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The split that was opened.
    pub fn split(&self) -> Split {
        self.split
    }

    /// Names of the classes; the label is the position.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// The known data set that this was opened as by [`crate::open_known`].
    pub fn known(&self) -> Option<KnownDataset> {
        self.origin.as_ref().map(|origin| origin.known)
    }

    /// What the data set itself calls each class, where that is not the label: the wnids of ImageNet and Stanford Dogs,
    /// the numbers of NABirds. Empty where there is nothing of the kind.
    pub fn class_ids(&self) -> &[String] {
        self.origin.as_ref().map_or(&[], |origin| &origin.class_ids)
    }

    /// How many images there were when the data set was opened, if some of the official split were missing; the same
    /// in every subset.
    pub fn partial(&self) -> Option<Partial> {
        self.origin.as_ref().and_then(|origin| origin.partial)
    }

    /// Label of a sample, in `0..class_names().len()`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Dataset::len`].
    pub fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    /// Labels of all samples.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Identity of a sample: unique within the split, the same in every subset.
    ///
    /// For IDX files it is the position in the original file. Everywhere else it is the first 63 bits (big-endian) of
    /// the SHA-256 of a relative name, so that an image keeps its id when the same data lie in another layout:
    ///
    /// - class folders: `class/.../file` below the split's folder;
    /// - ImageNet, as folders, as Kaggle's tree or as the original archives: `<wnid>/<file>` in every split;
    /// - list files: the path in the list, without `.` parts;
    /// - WebDataset: `<shard's file name>/<member>`;
    /// - Parquet: `<file name>/<row of the file, from 0>`, because its own paths may be absent or occur twice.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Dataset::len`].
    pub fn id(&self, index: usize) -> u64 {
        self.ids[index]
    }

    /// What names the noise of a sample: its id, apart from those of the other splits, in which
    /// another image may bear the same id. Shared noise would tell a probe which image it saw.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Dataset::len`].
    pub fn noise_id(&self, index: usize) -> u64 {
        let apart = match self.split {
            Split::Train => 0,
            Split::Validation => 1 << 63,
            Split::Test => 3 << 62,
        };
        self.ids[index] ^ apart
    }

    /// Identities of all samples.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Path of a sample's own file, or nothing where it has none: in memory, in an archive, in a table.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Dataset::len`].
    pub fn path(&self, index: usize) -> Option<PathBuf> {
        self.source.file(self.rows[index])
    }

    /// What a sample is called in messages: the path of its file, its archive and its name therein, or its position
    /// in words where images are held in memory.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Dataset::len`].
    pub fn name(&self, index: usize) -> String {
        match self.source.location(self.rows[index]) {
            Some(path) => path.display().to_string(),
            None => format!("number {index} of the {} split", self.split),
        }
    }

    /// The image of a sample, decoded now if it lies in a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or decoded.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Dataset::len`].
    pub fn image(&self, index: usize) -> Result<Image, DatasetError> {
        self.source.image(self.rows[index])
    }

    /// The bytes of a sample's image file, or nothing where images are held in memory.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Dataset::len`].
    pub fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DatasetError> {
        self.source.encoded(self.rows[index])
    }

    /// Samples at the given positions, in that order; labels, ids and class names stay as they are.
    ///
    /// # Panics
    ///
    /// If a position is not below [`Dataset::len`].
    pub fn subset(&self, indices: &[usize]) -> Self {
        Self {
            split: self.split,
            class_names: Arc::clone(&self.class_names),
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
            ids: indices.iter().map(|&index| self.ids[index]).collect(),
            rows: indices.iter().map(|&index| self.rows[index]).collect(),
            source: Arc::clone(&self.source),
            seen: Arc::clone(&self.seen),
            origin: self.origin.clone(),
        }
    }

    /// The samples of some classes, which are numbered anew in the order given; ids stay as they are.
    ///
    /// # Errors
    ///
    /// [`DatasetError::NoSuchClass`] if a name is none of the classes or occurs twice.
    pub fn only_classes(&self, names: &[String]) -> Result<Self, DatasetError> {
        let mut numbers = vec![None; self.class_names.len()];
        for (number, name) in names.iter().enumerate() {
            let place = self.class_names.iter().position(|known| known == name);
            let free = place
                .and_then(|place| numbers.get_mut(place))
                .filter(|number| number.is_none());
            *free.ok_or_else(|| DatasetError::NoSuchClass {
                name: name.clone(),
                known: self.class_names.join(", "),
            })? = Some(number as u32);
        }
        let number = |index: &usize| numbers.get(self.labels[*index] as usize).copied().flatten();
        let kept: Vec<usize> = (0..self.len())
            .filter(|index| number(index).is_some())
            .collect();
        Ok(Self {
            class_names: names.into(),
            labels: kept.iter().filter_map(number).collect(),
            origin: None,
            ..self.subset(&kept)
        })
    }

    /// A hash of class names, labels, ids and images, in their order: everything that can change a result but the
    /// [split](Dataset::split), by which noise is kept apart.
    ///
    /// Images in memory count with their shape and pixels; files and members of archives with the relative name that
    /// their id is made of, their size and their content (rows of a Parquet file with the size and content of that
    /// file). Every file's size is asked for and content is read to a bound of 256 MiB, in parallel, once for as long
    /// as the data set is open:
    ///
    /// - files of no more than 256 MiB together are read whole;
    /// - of more, at most 1024 are read, evenly spread over the samples in their order, each to its share of the bound:
    ///   of one that is larger the beginning and the end.
    ///
    /// What is not seen is a change outside of these that keeps a file's name and size.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn fingerprint(&self) -> Result<Sha256Hex, DatasetError> {
        #[derive(Serialize)]
        struct Parts<'a> {
            class_names: &'a [String],
            labels: Sha256Hex,
            ids: Sha256Hex,
            images: Sha256Hex,
        }

        let labels: Vec<u8> = self
            .labels
            .iter()
            .flat_map(|label| label.to_le_bytes())
            .collect();
        let ids: Vec<u8> = self.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Ok(Sha256Hex::hash_json(&Parts {
            class_names: &self.class_names,
            labels: Sha256Hex::hash_bytes(&labels),
            ids: Sha256Hex::hash_bytes(&ids),
            images: self.seen.of(&self.rows, || self.source.hash(&self.rows))?,
        })?)
    }
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Dataset({} split, {} samples, {} classes)",
            self.split,
            self.len(),
            self.class_names.len()
        )
    }
}

/// The smallest value that occurs more than once.
pub(crate) fn duplicate(ids: &[u64]) -> Option<u64> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    sorted
        .windows(2)
        .find(|pair| pair[0] == pair[1])
        .map(|pair| pair[0])
}
