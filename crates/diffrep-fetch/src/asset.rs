//! What can be had from elsewhere, as typed data.

/// A data set or a checkpoint that others publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    /// The name by which it is asked for, for example `flowers`.
    pub name: &'static str,
    /// What it is called by those who made it.
    pub title: &'static str,
    /// Whether it holds images or a network.
    pub kind: Kind,
    /// Under which terms it is published; a note for the reader, not legal advice.
    pub licence: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// What lies in the folder when all is done, in a sentence.
    pub layout: &'static str,
}

impl Asset {
    /// What a person has to do, in order; empty if [`fetch`](crate::fetch) does it all.
    pub fn steps(&self) -> &'static [&'static str] {
        match self.source {
            Source::Files(_) => &[],
            Source::ByHand { steps, .. } => steps,
        }
    }

    /// The files that [`fetch`](crate::fetch) downloads; empty if a person has to.
    pub fn downloads(&self) -> &'static [RemoteFile] {
        match self.source {
            Source::Files(files) => files,
            Source::ByHand { .. } => &[],
        }
    }

    /// Every file about which something is known, however it is obtained.
    pub fn known_files(&self) -> impl Iterator<Item = KnownFile> {
        let by_hand = match self.source {
            Source::Files(_) => &[],
            Source::ByHand { files, .. } => files,
        };
        let downloads = self.downloads().iter().map(|remote| remote.file);
        downloads.chain(by_hand.iter().copied())
    }

    /// How many bytes the downloads have together, if that is known of each.
    pub fn download_bytes(&self) -> Option<u64> {
        self.downloads()
            .iter()
            .try_fold(0u64, |sum, remote| sum.checked_add(remote.file.bytes?))
    }
}

/// What an asset holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Labelled images.
    DataSet,
    /// The weights of a network.
    Checkpoint,
}

/// Where an asset comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Files that anyone may download.
    Files(&'static [RemoteFile]),
    /// A person has to register, to agree to terms or to find a copy.
    ByHand {
        /// What to do, in order, one sentence each.
        steps: &'static [&'static str],
        /// What is known about the files that come of it; [`verify`](crate::verify) compares them.
        files: &'static [KnownFile],
    },
}

/// A file at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// What is known about it.
    pub file: KnownFile,
    /// Its address, `https` where the host has it.
    pub url: &'static str,
    /// How it is unpacked, if it is an archive.
    pub unpack: Option<Unpack>,
}

/// What is known about a file; what is not known stays `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Its name in the asset's folder, without a path.
    pub name: &'static str,
    /// Its exact size in bytes.
    pub bytes: Option<u64>,
    /// Its SHA-256 as 64 lower-case hexadecimal digits.
    pub sha256: Option<&'static str>,
    /// Its MD5 as 32 lower-case hexadecimal digits; proof against accidents, not against forgery.
    pub md5: Option<&'static str>,
}

impl KnownFile {
    /// Whether a published hash tells right bytes from wrong ones.
    pub fn has_hash(&self) -> bool {
        self.sha256.is_some() || self.md5.is_some()
    }
}

/// How an archive becomes files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpack {
    /// What kind of archive it is.
    pub format: Format,
    /// Entries at the top of the archive that must be there; once all of them lie in the folder,
    /// the archive counts as unpacked.
    pub yields: &'static [&'static str],
    /// The most bytes that the unpacked files may have together.
    pub max_bytes: u64,
}

/// A kind of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.tar`.
    Tar,
    /// `.tar.gz` or `.tgz`.
    TarGz,
}
