//! From the names in published checkpoints to the names of torchvision and timm. Trainers wrap the
//! network they train in others (`module.encoder_q.`, `backbone.`) and save projection heads,
//! momentum encoders and optimisers beside it. Every name is either used or left for a reason that
//! is told.

mod dialect;

use std::collections::{BTreeMap, BTreeSet};

use diffrep_state::NamedTensor;

use self::dialect::{AVERAGED, BESIDE, Dialect, INTO_TEXT, STEPPED, WRAPPERS};

/// A tensor of a file that is not loaded, and why that is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its name in the file.
    pub name: String,
    /// Why it is not loaded.
    pub reason: &'static str,
}

/// Where the tensors of a network lie in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What stands before the names of the network's tensors in the file.
    pub prefix: String,
    /// For each tensor of the network the names of the tensors in the file that make it up, to be
    /// stacked along the first axis; mostly one. Axes of length 1 in front may be missing in the file.
    pub sources: BTreeMap<String, Vec<String>>,
    /// Tensors that are not loaded, by name.
    pub left: Vec<Left>,
}

/// Why the names in a file are not those of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// No name is that of the network's first layer.
    #[error("no tensor is called {}, with or without a known wrapper before it", anchors.join(" or "))]
    NotFound {
        /// The names looked for.
        anchors: Vec<&'static str>,
    },
    /// Several networks are in the file.
    #[error("there are several networks, under {}: keep one of them", prefixes.join(", "))]
    Ambiguous {
        /// What stands before their names.
        prefixes: Vec<String>,
    },
    /// Names of the network are missing, or others are in the file that nothing is known about.
    #[error("{} missing ({}); {} unknown ({})", missing.len(), some(missing), unknown.len(), some(unknown))]
    Mismatch {
        /// What stands before the names of the network's tensors.
        prefix: String,
        /// Tensors of the network that the file lacks.
        missing: Vec<String>,
        /// Tensors of the file that are neither the network's nor known to stand beside it.
        unknown: Vec<String>,
    },
}

/// The first few names, for a message.
fn some(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        [first @ .., _] if names.len() > 5 => format!("{}, ...", first[..5].join(", ")),
        names => names.join(", "),
    }
}

/// Finds a network of the `wanted` tensors in a file with tensors of these `names`.
///
/// # Errors
///
/// When the network is not there, is there more than once, or is incomplete, or when the file has
/// names that nothing is known about.
pub fn plan<'a>(
    names: impl IntoIterator<Item = &'a str>,
    wanted: &[NamedTensor],
) -> Result<Plan, CheckpointError> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    let (dialect, prefix) = find(&names, Dialect::of(wanted))?;
    let keys: BTreeSet<&str> = wanted.iter().map(|tensor| tensor.key.as_str()).collect();
    let mut found: BTreeMap<String, BTreeMap<usize, &str>> = BTreeMap::new();
    let mut left = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        let inside = name.strip_prefix(prefix);
        if let Some(inside) = inside {
            let (key, part) = dialect.translate(inside);
            let free = !found
                .get(&key)
                .is_some_and(|parts| parts.contains_key(&part));
            if free && keys.contains(key.as_str()) {
                found.entry(key).or_default().insert(part, name);
                continue;
            }
        }
        match inside
            .and_then(|inside| dialect.left(inside))
            .or(beside(name, prefix))
        {
            Some(reason) => left.push(Left {
                name: name.into(),
                reason,
            }),
            None => unknown.push(name.into()),
        }
    }
    let parts = |key: &str| match dialect {
        Dialect::ClipOfTransformers if key.contains(".attn.qkv.") => 3,
        _ => 1,
    };
    let missing: Vec<String> = wanted
        .iter()
        .filter(|tensor| found.get(&tensor.key).map_or(0, BTreeMap::len) < parts(&tensor.key))
        .map(|tensor| tensor.key.clone())
        .collect();
    if !missing.is_empty() || !unknown.is_empty() {
        return Err(CheckpointError::Mismatch {
            prefix: prefix.into(),
            missing,
            unknown,
        });
    }
    let sources = found
        .into_iter()
        .map(|(key, parts)| (key, parts.into_values().map(String::from).collect()))
        .collect();
    Ok(Plan {
        prefix: prefix.into(),
        sources,
        left,
    })
}

/// In which dialect the network is written and what stands before its names.
fn find<'a>(
    names: &[&'a str],
    dialects: &[Dialect],
) -> Result<(Dialect, &'a str), CheckpointError> {
    let mut candidates = Vec::new();
    for dialect in dialects {
        for name in names {
            let prefix = name.strip_suffix(dialect.anchor());
            let averaged = |prefix: &str| *dialect == Dialect::DiT && prefix == AVERAGED;
            let prefix = prefix.filter(|prefix| wraps(prefix) || averaged(prefix));
            candidates.extend(prefix.map(|prefix| (*dialect, prefix)));
        }
    }
    // A training of DiT saves its weights twice, and the averages are what is meant to be used.
    if let [(Dialect::DiT, _), (Dialect::DiT, _)] = candidates.as_slice() {
        let of = |start: &str| candidates.iter().find(|(_, prefix)| *prefix == start);
        if let (Some(averaged), Some(_)) = (of(AVERAGED), of(STEPPED.0)) {
            return Ok(*averaged);
        }
    }
    match candidates.as_slice() {
        [one] => Ok(*one),
        [] => Err(CheckpointError::NotFound {
            anchors: dialects.iter().map(|dialect| dialect.anchor()).collect(),
        }),
        several => Err(CheckpointError::Ambiguous {
            prefixes: several.iter().map(|(_, p)| format!("`{p}`")).collect(),
        }),
    }
}

/// Whether all that stands before a name are known wrappers.
fn wraps(prefix: &str) -> bool {
    match prefix.strip_suffix('.') {
        None => prefix.is_empty(),
        Some(parts) => parts.split('.').all(|part| WRAPPERS.contains(&part)),
    }
}

/// Why a tensor outside the network is left in the file, if that is known to be right.
fn beside(name: &str, prefix: &str) -> Option<&'static str> {
    if prefix == AVERAGED && name.starts_with(STEPPED.0) {
        return Some(STEPPED.1);
    }
    if name.starts_with(prefix) && !prefix.is_empty() {
        return None;
    }
    let first = name.split('.').find(|part| !WRAPPERS.contains(part))?;
    let known = BESIDE.iter().find(|(part, _)| *part == first);
    match first {
        "visual_projection" => Some(INTO_TEXT),
        _ => known.map(|(_, reason)| *reason),
    }
}

#[cfg(test)]
mod tests;
