//! `cargo xtask torture`: commands that are killed, starved and interfered with end in the bytes of an undisturbed run.

mod chance;
mod clock;
mod damage;
mod disks;
mod job;
mod kills;
mod memory;
mod output;
mod run;
mod together;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{binary, process};
use job::Job;
use kills::Killed;
use run::Runner;

const HELP: &str = "\
Interfere with `diffrep` as machines and people do, and compare what it leaves with an undisturbed run.

Usage: cargo xtask torture [OPTION]... [CASE]...

Cases (all of them, if none is named):
  kills     SIGKILL at random instants, then the same command again
  full      a disk that is too small, then one that is not
  readonly  a folder that cannot be written to, then one that can
  memory    less memory than the command takes, then enough
  damage    results that are cut short or deleted, then the same command again
  together  two processes of the same command at once
  clock     files whose times lie in the future or long ago, and a clock that jumps while the command runs

Options:
  --jobs LIST     of extract, probe, pretrain, sample, reproduce, separated by commas (all)
  --kills N       kills over all jobs (100)
  --seed N        which instants (0)
  --program PATH  a `diffrep` that is built already, instead of a release build
  --help          print this

Work lies in target/torture; it is deleted first, and left behind after a failure.
At the end a table tells, for each job, the kills and whether the bytes were equal.
A clock that jumps needs libfaketime (Debian: faketime); without it only the times of files are odd, which is said.
Linux is wanted, and for small disks the right to mount them, as root has; without it files are limited in size.
";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    cases: Vec<Case>,
    jobs: Vec<Job>,
    kills: usize,
    seed: u64,
    program: Option<PathBuf>,
}

/// One way to interfere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Kills,
    Full,
    ReadOnly,
    Memory,
    Damage,
    Together,
    Clock,
}

/// What a case came to.
struct Outcome {
    told: String,
    /// For kills their numbers.
    killed: Option<Killed>,
}

const CASES: [(&str, Case); 7] = [
    ("kills", Case::Kills),
    ("full", Case::Full),
    ("readonly", Case::ReadOnly),
    ("memory", Case::Memory),
    ("damage", Case::Damage),
    ("together", Case::Together),
    ("clock", Case::Clock),
];

/// An undisturbed run of a job, which all others are held to.
struct Reference {
    job: Job,
    output: output::Output,
    /// How long it took, in seconds.
    seconds: f64,
}

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if crate::asks_for_help(arguments) {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = Arguments::parse(arguments)?;
    let program = match &arguments.program {
        Some(path) => path
            .canonicalize()
            .with_context(|| format!("there is no {}", path.display()))?,
        None => {
            let (built, program) = binary::build(&[])?;
            if !built.success() {
                return Ok(process::exit_code(built));
            }
            program
        }
    };
    let work = process::root().join("target/torture");
    if work.exists() {
        std::fs::remove_dir_all(&work).with_context(|| format!("deleting {}", work.display()))?;
    }
    std::fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
    let runner = Runner::new(program, work.clone());
    job::prepare(&runner)?;
    let mut passed = true;
    let mut killed: Vec<(Job, Option<Killed>)> = Vec::new();
    for job in &arguments.jobs {
        let reference = undisturbed(*job, &runner)?;
        for case in &arguments.cases {
            let start = Instant::now();
            let outcome = case.run(&reference, &runner, &arguments);
            let seconds = start.elapsed().as_secs_f64();
            let (verdict, told) = match &outcome {
                Ok(outcome) => ("holds", outcome.told.clone()),
                Err(error) => ("FAILED", format!("{error:#}")),
            };
            if *case == Case::Kills {
                let found = outcome.as_ref().ok().and_then(|outcome| outcome.killed);
                killed.push((*job, found));
            }
            passed &= outcome.is_ok();
            println!(
                "{:<10} {:<9} {verdict:<6} {seconds:>6.0} s  {told}",
                job.name(),
                case.name()
            );
        }
    }
    if !killed.is_empty() {
        println!("\n{}", table(&killed));
    }
    if passed {
        std::fs::remove_dir_all(&work).context("deleting what is not needed any more")?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nwhat is left lies in {}", work.display());
    Ok(ExitCode::FAILURE)
}

/// The kills of each job, and what became of the bytes.
fn table(killed: &[(Job, Option<Killed>)]) -> String {
    let row = |job: &str, kills: &str, ends: &str, equal: &str| {
        format!("{job:<10} {kills:>6} {ends:>11}  {equal}\n")
    };
    let mut text = row("job", "kills", "runs to end", "bytes equal");
    let (mut kills, mut ends) = (0, 0);
    for (job, found) in killed {
        match found {
            Some(found) => {
                (kills, ends) = (kills + found.kills, ends + found.ends);
                let [landed, ended] = [found.kills, found.ends].map(|n| n.to_string());
                text.push_str(&row(job.name(), &landed, &ended, "yes"));
            }
            None => text.push_str(&row(job.name(), "-", "-", "NO, or not compared (above)")),
        }
    }
    let all = killed.iter().all(|(_, found)| found.is_some());
    let equal = if all { "yes" } else { "NO" };
    text.push_str(&row("all", &kills.to_string(), &ends.to_string(), equal));
    text
}

/// Runs a job twice, undisturbed, and learns what of its output never changes.
fn undisturbed(job: Job, runner: &Runner) -> Result<Reference> {
    let folder = runner.fresh(&format!("{}-whole", job.name()))?;
    let start = Instant::now();
    runner.succeed(&job.arguments(runner.work(), &folder))?;
    let seconds = start.elapsed().as_secs_f64();
    let output = output::Output::read(&folder)?;
    let again = runner.fresh(&format!("{}-again", job.name()))?;
    runner.succeed(&job.arguments(runner.work(), &again))?;
    output
        .require_equal(&output::Output::read(&again)?, job)
        .context("two undisturbed runs differ")?;
    Ok(Reference {
        job,
        output,
        seconds,
    })
}

impl Reference {
    /// Runs the job to its end in a folder that was interfered with, and compares.
    fn finish_in(&self, folder: &Path, runner: &Runner) -> Result<()> {
        runner.succeed(&self.job.arguments(runner.work(), folder))?;
        self.output
            .require_equal(&output::Output::read(folder)?, self.job)
    }
}

impl Case {
    fn name(self) -> &'static str {
        let named = CASES.iter().find(|(_, case)| *case == self);
        named.map_or("", |(name, _)| name)
    }

    /// Interferes, compares, and says what was done.
    fn run(self, reference: &Reference, runner: &Runner, arguments: &Arguments) -> Result<Outcome> {
        let told = match self {
            Self::Kills => {
                let kills = arguments.kills.div_ceil(arguments.jobs.len());
                let killed = kills::run(reference, runner, kills, arguments.seed)?;
                return Ok(Outcome {
                    told: killed.told(),
                    killed: Some(killed),
                });
            }
            Self::Full => disks::full(reference, runner),
            Self::ReadOnly => disks::read_only(reference, runner),
            Self::Memory => memory::run(reference, runner),
            Self::Damage => damage::run(reference, runner),
            Self::Together => together::run(reference, runner),
            Self::Clock => clock::run(reference, runner),
        };
        Ok(Outcome {
            told: told?,
            killed: None,
        })
    }
}

impl Arguments {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut parsed = Self {
            cases: Vec::new(),
            jobs: Job::ALL.to_vec(),
            kills: 100,
            seed: 0,
            program: None,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("`{argument}` needs a value"))
            };
            match argument.as_str() {
                "--jobs" => {
                    parsed.jobs = value()?.split(',').map(Job::named).collect::<Result<_>>()?
                }
                "--kills" => parsed.kills = number(argument, value()?)?,
                "--seed" => parsed.seed = number(argument, value()?)?,
                "--program" => parsed.program = Some(value()?.into()),
                name => {
                    let known = CASES.iter().find(|(known, _)| *known == name);
                    let Some((_, case)) = known else {
                        let names = CASES.map(|(name, _)| name).join(", ");
                        bail!("there is no case or option `{name}`; the cases are {names}");
                    };
                    parsed.cases.push(*case);
                }
            }
        }
        if parsed.cases.is_empty() {
            parsed.cases = CASES.iter().map(|(_, case)| *case).collect();
        }
        Ok(parsed)
    }
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T> {
    let parsed = text.parse().ok();
    parsed.with_context(|| format!("`{option}` is a whole number, not `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Arguments> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        Arguments::parse(&words)
    }

    #[test]
    fn without_arguments_everything_is_tried() {
        let all = parse("").unwrap();
        assert_eq!((all.cases.len(), all.jobs.len(), all.kills), (7, 5, 100));
        let some = parse("kills --jobs extract,probe --kills 7 --seed 3").unwrap();
        assert_eq!(some.cases, [Case::Kills]);
        assert_eq!((some.jobs.len(), some.kills, some.seed), (2, 7, 3));
    }

    #[test]
    fn the_table_has_a_row_for_each_job_and_one_for_all() {
        let killed = |kills| Some(Killed { kills, ends: 3 });
        let good = table(&[(Job::Extract, killed(20)), (Job::Sample, killed(21))]);
        assert!(
            good.contains("extract        20           3  yes\n"),
            "{good}"
        );
        assert!(
            good.ends_with("all            41           6  yes\n"),
            "{good}"
        );
        let bad = table(&[(Job::Extract, killed(20)), (Job::Sample, None)]);
        assert!(bad.contains("sample          -"), "{bad}");
        assert!(bad.trim_end().ends_with("NO"), "{bad}");
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        for (words, hint) in [
            ("kill", "kills, full"),
            ("--jobs extrakt", "extract, probe"),
            ("--kills", "needs a value"),
            ("--kills many", "whole number"),
        ] {
            let error = format!("{:#}", parse(words).unwrap_err());
            assert!(error.contains(hint), "{error}");
        }
    }
}
