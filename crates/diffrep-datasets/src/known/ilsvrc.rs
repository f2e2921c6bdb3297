//! The numbers of ILSVRC2012's development kit against the labels that everyone uses.

use std::path::Path;

use super::assemble::incomplete;
use crate::DatasetError;
use crate::mat::{MatFile, read_mat};

/// The classes of ILSVRC2012 by the number that the development kit gives them.
///
/// A label is the rank of the wnid among all wnids in ascending order. The numbers of the kit, in which the ground
/// truth of the validation images is written, follow another order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IlsvrcClasses {
    /// By number, from 1.
    classes: Vec<Class>,
    /// Ascending.
    wnids: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Class {
    wnid: String,
    rank: u32,
}

impl IlsvrcClasses {
    /// Reads the classes of `meta.mat`: the synsets without children.
    ///
    /// # Errors
    ///
    /// If the file is damaged, the numbers of the classes are not 1, 2, 3 and so on, or a wnid is malformed or occurs
    /// twice.
    pub fn read(meta: &Path) -> Result<Self, DatasetError> {
        Self::of(meta, &read_mat(meta)?)
    }

    /// The classes in a file that was read already; `meta` is what errors name.
    pub(crate) fn of(meta: &Path, file: &MatFile) -> Result<Self, DatasetError> {
        let mut numbered = Vec::new();
        for synset in file.records("synsets")? {
            if synset.integer("num_children")? == 0 {
                let wnid = synset.text("WNID")?;
                if !is_wnid(wnid) {
                    let problem = format!("it has the wnid {wnid:?}, expected n and eight digits");
                    return Err(incomplete(meta, problem));
                }
                let class = Class {
                    wnid: wnid.to_owned(),
                    rank: 0,
                };
                numbered.push((synset.integer("ILSVRC2012_ID")?, class));
            }
        }
        if numbered.is_empty() {
            return Err(incomplete(meta, "it names no class"));
        }
        numbered.sort_by_key(|(number, _)| *number);
        if !numbered
            .iter()
            .map(|(number, _)| *number)
            .eq(1..=numbered.len() as u64)
        {
            let problem = "the numbers of its classes are not 1, 2, 3 and so on";
            return Err(incomplete(meta, problem));
        }
        let mut classes: Vec<Class> = numbered.into_iter().map(|(_, class)| class).collect();
        let mut wnids: Vec<String> = classes.iter().map(|class| class.wnid.clone()).collect();
        wnids.sort_unstable();
        if let Some(pair) = wnids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(incomplete(meta, format!("it has {} twice", pair[0])));
        }
        for class in &mut classes {
            class.rank = wnids.partition_point(|wnid| *wnid < class.wnid) as u32;
        }
        Ok(Self { classes, wnids })
    }

    /// Wnids in ascending order; the label is the position.
    pub fn wnids(&self) -> &[String] {
        &self.wnids
    }

    /// The wnid of a number of the kit, from 1.
    pub fn wnid(&self, number: u64) -> Option<&str> {
        self.class(number).map(|class| class.wnid.as_str())
    }

    /// The label of a number of the kit, from 1.
    pub fn label(&self, number: u64) -> Option<u32> {
        self.class(number).map(|class| class.rank)
    }

    fn class(&self, number: u64) -> Option<&Class> {
        let position = usize::try_from(number).ok()?.checked_sub(1)?;
        self.classes.get(position)
    }
}

/// Whether a text is the name of a synset of nouns: `n` and eight digits.
pub(super) fn is_wnid(text: &str) -> bool {
    let digits = text.strip_prefix('n').unwrap_or("");
    digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit())
}
