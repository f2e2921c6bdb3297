//! Where the files of an experiment are looked for.

use std::path::{Path, PathBuf};

/// Folders in which paths of an experiment begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// Where paths begin that are not said to begin elsewhere: the folder of an experiment's own file, or
    /// nothing for the folder in which the program runs.
    pub base: PathBuf,
    /// What stands for `data` at the beginning of a path.
    pub data: Option<PathBuf>,
    /// What stands for `checkpoints` at the beginning of a path.
    pub checkpoints: Option<PathBuf>,
}

impl Roots {
    /// Those of an experiment that a file describes: paths begin in the file's folder.
    pub fn beside(file: &Path) -> Self {
        Self {
            base: file.parent().map(Path::to_path_buf).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Where a path of the experiment leads.
    pub fn find(&self, path: &Path) -> PathBuf {
        let replaced = [("data", &self.data), ("checkpoints", &self.checkpoints)];
        for (first, folder) in replaced {
            if let (Some(folder), Ok(rest)) = (folder, path.strip_prefix(first)) {
                return folder.join(rest);
            }
        }
        self.base.join(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_at_the_file_unless_their_folder_is_said_to_be_elsewhere() {
        let mut roots = Roots::beside(Path::new("mine/first.toml"));
        let find = |roots: &Roots, path: &str| roots.find(Path::new(path)).display().to_string();
        assert_eq!(find(&roots, "data/cub"), "mine/data/cub");
        assert_eq!(find(&roots, "../model.pt"), "mine/../model.pt");
        assert_eq!(find(&roots, "/models/a.pt"), "/models/a.pt");
        roots.data = Some("/sets".into());
        roots.checkpoints = Some("/models".into());
        assert_eq!(find(&roots, "data/cub"), "/sets/cub");
        assert_eq!(find(&roots, "checkpoints/a.pt"), "/models/a.pt");
        assert_eq!(find(&roots, "database/cub"), "mine/database/cub");
        assert_eq!(find(&Roots::default(), "data/cub"), "data/cub");
        let here = Roots::beside(Path::new("first.toml"));
        assert_eq!(find(&here, "data/cub"), "data/cub");
    }
}
