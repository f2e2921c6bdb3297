//! What memory there is, and what of it this process has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

/// A number of bytes as a user writes it: `8G`, `1.5GiB`, `512M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("`{text}` is no size: write one as 8G, 512M or 1.5GiB");
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = text.split_at(end.unwrap_or(text.len()));
        let number: f64 = number.parse().map_err(|_| refuse())?;
        let unit = unit.strip_suffix('B').unwrap_or(unit);
        let (unit, thousand) = match unit.strip_suffix('i') {
            Some(unit) if !unit.is_empty() => (unit, 1024.0f64),
            _ => (unit, 1000.0),
        };
        let power = match unit {
            "" => 0,
            "K" | "k" => 1,
            "M" => 2,
            "G" => 3,
            "T" => 4,
            _ => return Err(refuse()),
        };
        let bytes = number * thousand.powi(power);
        if bytes < 1.0 || bytes > u64::MAX as f64 {
            return Err(refuse());
        }
        Ok(Self(bytes as u64))
    }
}

/// A limit of memory as a user writes it.
///
/// # Errors
///
/// When it is no size, or below the 64 MiB that the program itself takes: a number without a unit, such as `8`, is
/// one of bytes, which nobody means.
pub(crate) fn limit(text: &str) -> Result<Bytes, String> {
    const LEAST: u64 = 64 << 20;
    let limit: Bytes = text.parse()?;
    if limit.0 >= LEAST {
        return Ok(limit);
    }
    let hint = match text.parse::<u64>() {
        Ok(number @ ..64) => format!(": did you mean {number}GiB?"),
        Ok(number @ ..100_000) => format!(": did you mean {number}MiB?"),
        _ => String::new(),
    };
    Err(format!(
        "`{text}` is {} bytes, and the least limit is 64MiB{hint}",
        limit.0
    ))
}

/// Resident memory of this process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    /// Now.
    pub(crate) now: u64,
    /// The most so far, or since [`forget_peak`].
    pub(crate) peak: u64,
}

/// What this process has, where the system tells.
pub(crate) fn resident() -> Option<Resident> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(Resident {
        now: kilobytes(&status, "VmRSS:")?,
        peak: kilobytes(&status, "VmHWM:")?,
    })
}

/// Lets the peak of [`resident`] begin anew; says whether the system does so.
pub(crate) fn forget_peak() -> bool {
    // "5" is the request for it (proc(5), clear_refs).
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Memory that may still be taken, and what says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Free {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Who says so, in words.
    pub(crate) source: String,
}

/// What the system and the control groups of this process leave: the smallest of all.
pub(crate) fn free() -> Option<Free> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let system = Free {
        bytes: kilobytes(&meminfo, "MemAvailable:")?,
        source: "the system has it free".into(),
    };
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = groups_leave(&groups, Path::new("/sys/fs/cgroup"));
    groups
        .into_iter()
        .chain([system])
        .min_by_key(|free| free.bytes)
}

/// Memory of a GPU, as `nvidia-smi` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// Bytes in use.
    pub(crate) used: u64,
    /// Bytes that are free.
    pub(crate) free: u64,
    /// The cards that it may be, by their numbers in `nvidia-smi`. Of several, one of which is meant, these are the
    /// bytes of the one with the least free.
    pub(crate) cards: Vec<usize>,
}

impl Gpu {
    /// Who says how much is free, in words; `index` is CUDA's number.
    pub(crate) fn source(&self, index: usize) -> String {
        match self.cards.as_slice() {
            [_] => format!("GPU {index} has it free"),
            cards => {
                let cards: Vec<String> = cards.iter().map(ToString::to_string).collect();
                format!(
                    "GPU {index} is one of the unlike cards {} of nvidia-smi, and the fullest of them has it free; \
                     CUDA_DEVICE_ORDER=PCI_BUS_ID would tell which",
                    cards.join(", ")
                )
            }
        }
    }
}

/// Memory of the GPU that CUDA calls `index` in this process, if `nvidia-smi` tells it.
pub(crate) fn gpu(index: usize) -> Option<Gpu> {
    let query = [
        "--query-gpu=index,uuid,name,memory.used,memory.free",
        "--format=csv,noheader,nounits",
    ];
    let told = Command::new("nvidia-smi").args(query).output();
    let told = told.ok().filter(|told| told.status.success())?;
    let variable = |name: &str| std::env::var(name).ok();
    gpu_of(
        &String::from_utf8_lossy(&told.stdout),
        variable("CUDA_VISIBLE_DEVICES").as_deref(),
        variable("CUDA_DEVICE_ORDER").as_deref(),
        index,
    )
}

/// A card in the table of `nvidia-smi`.
struct Card<'a> {
    /// Its number there, in the order of the PCI bus.
    number: usize,
    uuid: &'a str,
    name: &'a str,
    used: u64,
    free: u64,
}

impl<'a> Card<'a> {
    /// A line `index, uuid, name, memory.used, memory.free`, the last two in MiB.
    fn read(line: &'a str) -> Option<Self> {
        let mut fields = line.split(',').map(str::trim);
        let mut field = || fields.next();
        let (number, uuid, name, used, free) = (field()?, field()?, field()?, field()?, field()?);
        let bytes = |text: &str| Some(text.parse::<u64>().ok()? << 20);
        Some(Self {
            number: number.parse().ok()?,
            uuid,
            name,
            used: bytes(used)?,
            free: bytes(free)?,
        })
    }
}

/// The GPU that CUDA calls `index`, given what `nvidia-smi` prints of all cards and the two variables that decide how
/// CUDA counts them (CUDA C++ Programming Guide, "CUDA Environment Variables").
///
/// `CUDA_VISIBLE_DEVICES` lists what a process sees, in its order: numbers, or UUIDs that may be cut short. A number is
/// of CUDA's own count, which is that of the bus (and of `nvidia-smi`) if `CUDA_DEVICE_ORDER` is `PCI_BUS_ID`, and
/// else begins with the fastest card: among unlike cards it may then be any. None where there is no such GPU, the list
/// names a part of one (MIG), or a line is not understood.
fn gpu_of(table: &str, visible: Option<&str>, order: Option<&str>, index: usize) -> Option<Gpu> {
    let lines = table.lines().filter(|line| !line.trim().is_empty());
    let cards: Vec<Card<'_>> = lines.map(Card::read).collect::<Option<_>>()?;
    let by_number = |number: usize| -> Option<Vec<&Card<'_>>> {
        let at_place = cards.iter().find(|card| card.number == number)?;
        let alike = cards.iter().all(|card| card.name == cards[0].name);
        match alike || order == Some("PCI_BUS_ID") {
            true => Some(vec![at_place]),
            false => Some(cards.iter().collect()),
        }
    };
    let candidates = match visible {
        None => by_number(index)?,
        Some(list) => {
            // CUDA reads no further than a word that it does not understand, and has no GPU for the places behind it.
            let word = list.split(',').map(str::trim).nth(index)?;
            match word.parse() {
                Ok(number) => by_number(number)?,
                Err(_) => {
                    let mut named = cards.iter().filter(|card| card.uuid.starts_with(word));
                    match (named.next(), named.next()) {
                        (Some(card), None) if word.starts_with("GPU-") => vec![card],
                        _ => return None,
                    }
                }
            }
        }
    };
    let fullest = candidates.iter().min_by_key(|card| card.free)?;
    Some(Gpu {
        used: fullest.used,
        free: fullest.free,
        cards: candidates.iter().map(|card| card.number).collect(),
    })
}

/// The value of a line `NAME  123 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.trim().strip_suffix("kB")?.trim();
    Some(number.parse::<u64>().ok()? * 1024)
}

/// What the memory control groups named in `/proc/self/cgroup` leave, of version 2 or 1, below their mount
/// point; a limit of a group above holds for those within it.
fn groups_leave(groups: &str, mounted: &Path) -> Vec<Free> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, version) = match controllers {
            "" => (mounted.to_path_buf(), &TWO),
            one if one.split(',').any(|name| name == "memory") => (mounted.join("memory"), &ONE),
            _ => continue,
        };
        // In a container the path may be that of the host, of which only the root is there.
        let mut dir: PathBuf = root.join(path.trim_start_matches('/'));
        loop {
            found.extend(version.leaves(&dir));
            if dir == root || !dir.pop() {
                break;
            }
        }
    }
    found
}

/// Files of a version of control groups.
struct Version {
    limit: &'static str,
    usage: &'static str,
    /// Cached file pages in `memory.stat`, which are given up before the limit is hit.
    cached: &'static str,
}

const TWO: Version = Version {
    limit: "memory.max",
    usage: "memory.current",
    cached: "inactive_file ",
};
const ONE: Version = Version {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cached: "total_inactive_file ",
};

impl Version {
    fn leaves(&self, dir: &Path) -> Option<Free> {
        let text = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
        // Without a limit it is the word `max`, or in version 1 a number as large as can be.
        let limit: u64 = text(self.limit)?.trim().parse().ok()?;
        let usage: u64 = text(self.usage)?.trim().parse().ok()?;
        let stat = text("memory.stat").unwrap_or_default();
        let cached = stat.lines().find_map(|line| line.strip_prefix(self.cached));
        let cached: u64 = cached
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        (limit < 1 << 60).then(|| Free {
            bytes: limit.saturating_sub(usage.saturating_sub(cached)),
            source: format!("the control group {} leaves it", dir.display()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("8G", 8_000_000_000),
            ("8GB", 8_000_000_000),
            ("1.5GiB", 3 << 29),
            ("512Mi", 512 << 20),
            ("64k", 64_000),
            ("1234", 1234),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "G", "8X", "-1G", "0", "1e30T", "8 G", "iB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_that_no_process_keeps_is_refused_with_what_was_meant() {
        assert_eq!(limit("64MiB"), Ok(Bytes(64 << 20)));
        assert_eq!(limit("8G"), Ok(Bytes(8_000_000_000)));
        assert_eq!(limit("67108864"), Ok(Bytes(64 << 20)));
        for (text, hint) in [
            ("8", "did you mean 8GiB?"),
            ("512", "did you mean 512MiB?"),
            ("1M", "is 1000000 bytes, and the least limit is 64MiB"),
            ("67108863", "the least limit is 64MiB"),
            ("8X", "is no size"),
        ] {
            let error = limit(text).unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
        assert!(!limit("1M").unwrap_err().contains("did you mean"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_the_system_leaves_some() {
        let before = resident().unwrap();
        assert!(before.now > 1 << 20 && before.peak >= before.now / 2);
        assert!(free().unwrap().bytes > 0);
        // 64 MiB that are touched are seen.
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(resident().unwrap().peak >= before.now + (32 << 20));
        drop(touched);
    }

    #[test]
    fn the_tightest_control_group_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |at: &str, files: &[(&str, &str)]| {
            let group = dir.path().join(at);
            std::fs::create_dir_all(&group).unwrap();
            for (name, text) in files {
                std::fs::write(group.join(name), text).unwrap();
            }
        };
        let least = |groups: &str| {
            let found = groups_leave(groups, dir.path());
            found.into_iter().map(|free| free.bytes).min()
        };
        assert_eq!(least("0::/a/b\n"), None);
        write("a/b", &[("memory.max", "max\n"), ("memory.current", "5\n")]);
        assert_eq!(least("0::/a/b\n"), None);
        // The group above has a limit; of what is in use, cached pages are given up first.
        let stat = "anon 100\ninactive_file 300\nactive_file 7\n";
        write(
            "a",
            &[
                ("memory.max", "1000\n"),
                ("memory.current", "600\n"),
                ("memory.stat", stat),
            ],
        );
        assert_eq!(least("0::/a/b\n"), Some(700));
        assert_eq!(least("1:cpu:/x\n0::/a/b\n"), Some(700));
        // Version 1, whose path is the host's.
        let none = ("memory.limit_in_bytes", "9223372036854771712\n");
        write("memory", &[none, ("memory.usage_in_bytes", "1\n")]);
        assert_eq!(least("4:memory:/docker/abc\n"), None);
        let limit = ("memory.limit_in_bytes", "2000\n");
        write("memory", &[limit, ("memory.usage_in_bytes", "500\n")]);
        assert_eq!(least("4:memory:/docker/abc\n"), Some(1500));
    }

    /// An old card on the first slot of the bus, and two fast ones.
    const UNLIKE: &str = "\
        0, GPU-11aa0000-0000-0000-0000-000000000000, Quadro P400, 1500, 500\n\
        1, GPU-22bb0000-0000-0000-0000-000000000000, NVIDIA H100 80GB HBM3, 1000, 80000\n\
        2, GPU-22cc0000-0000-0000-0000-000000000000, NVIDIA H100 80GB HBM3, 41000, 40000\n";
    const ALIKE: &str = "\
        0, GPU-22bb0000-0000-0000-0000-000000000000, NVIDIA H100 80GB HBM3, 417, 81142\n\
        1, GPU-22cc0000-0000-0000-0000-000000000000, NVIDIA H100 80GB HBM3, 41000, 40000\n";

    #[test]
    fn cards_that_are_alike_are_counted_as_nvidia_smi_does() {
        let free = |visible, index| gpu_of(ALIKE, visible, None, index).map(|gpu| gpu.free >> 20);
        assert_eq!(free(None, 0), Some(81142));
        assert_eq!(free(None, 1), Some(40000));
        assert_eq!(free(None, 2), None);
        assert_eq!(free(Some("1,0"), 0), Some(40000));
        assert_eq!(free(Some("1, 0"), 1), Some(81142));
        // Nothing is seen, or nothing at that place.
        assert_eq!(free(Some(""), 0), None);
        assert_eq!(free(Some("1"), 1), None);
        assert_eq!(free(Some("-1"), 0), None);
        assert_eq!(free(Some("7"), 0), None);
        assert_eq!(gpu_of(ALIKE, None, None, 0).unwrap().used, 417 << 20);
    }

    #[test]
    fn cards_are_found_by_their_uuid_even_if_it_is_cut_short() {
        let free = |visible| gpu_of(UNLIKE, Some(visible), None, 0).map(|gpu| gpu.free >> 20);
        assert_eq!(
            free("GPU-22bb0000-0000-0000-0000-000000000000"),
            Some(80000)
        );
        assert_eq!(free("GPU-22c,GPU-11"), Some(40000));
        // Of two cards, of none, and of a part of one.
        assert_eq!(free("GPU-22"), None);
        assert_eq!(free("GPU-33"), None);
        assert_eq!(free("MIG-22bb0000-0000-0000-0000-000000000000"), None);
    }

    #[test]
    fn of_unlike_cards_in_no_known_order_the_fullest_counts_and_that_is_said() {
        let gpu = |visible, order, index| gpu_of(UNLIKE, visible, order, index).unwrap();
        let bus = gpu(None, Some("PCI_BUS_ID"), 1);
        assert_eq!((bus.free >> 20, bus.cards.as_slice()), (80000, &[1][..]));
        assert_eq!(bus.source(1), "GPU 1 has it free");
        let chosen = gpu(Some("2,0"), Some("PCI_BUS_ID"), 0);
        assert_eq!((chosen.free >> 20, chosen.cards.len()), (40000, 1));
        for order in [None, Some("FASTEST_FIRST")] {
            for visible in [None, Some("1,2")] {
                let any = gpu(visible, order, 0);
                assert_eq!((any.used >> 20, any.free >> 20), (1500, 500));
                let said = any.source(0);
                assert!(said.contains("cards 0, 1, 2 of nvidia-smi"), "{said}");
                assert!(said.contains("CUDA_DEVICE_ORDER=PCI_BUS_ID"), "{said}");
            }
        }
    }

    #[test]
    fn a_table_that_is_not_understood_tells_nothing() {
        for table in ["", "417, 81142\n", "0, GPU-1, H100, [N/A], [N/A]\n"] {
            assert_eq!(gpu_of(table, None, None, 0), None, "{table}");
        }
    }
}
