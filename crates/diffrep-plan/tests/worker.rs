//! Which worker a process is, in the environments that launchers make.

use std::collections::BTreeMap;

use diffrep_plan::{ARRAY_COUNT, Array, Place, PlanError, Ranks, Source, local_index};
use proptest::prelude::*;

/// Variables as `NAME=value`, one after another.
fn environment(text: &str) -> BTreeMap<String, String> {
    text.split_whitespace()
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn detect(text: &str) -> Result<Place, PlanError> {
    let environment = environment(text);
    Place::detect(|name| environment.get(name).cloned())
}

fn check(text: &str, index: usize, count: usize, source: Source) {
    let place = detect(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(
        (place.index, place.count, place.source),
        (index, count, source),
        "{text}"
    );
}

fn refused(text: &str, says: &[&str]) {
    let error = detect(text).unwrap_err().to_string();
    for say in says {
        assert!(error.contains(say), "{text}: {error}");
    }
    assert!(
        error.contains("k/K") || error.contains("counted from 0"),
        "{error}"
    );
}

const SLURM: Source = Source::Array(Array::Slurm);
const ARRAY: &str = "SLURM_ARRAY_JOB_ID=1 SLURM_ARRAY_TASK_MIN=2 SLURM_ARRAY_TASK_MAX=8 \
                     SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_STEP=3";

#[test]
fn without_a_launcher_a_process_is_alone() {
    check("", 0, 1, Source::Alone);
    check("PATH=/bin SLURM_CONF=/x", 0, 1, Source::Alone);
    assert_eq!(
        Place::alone().to_string(),
        "worker 0/1 (nothing says there are others)"
    );
}

#[test]
fn what_is_given_wins() {
    let place = Place::resolve(Some("3/8"), |_| Some("1".into())).unwrap();
    assert_eq!(
        (place.index, place.count, place.source),
        (3, 8, Source::Given)
    );
    assert_eq!(place.to_string(), "worker 3/8 (as given)");
    for text in [
        "",
        "3",
        "3/",
        "/8",
        "-1/8",
        "+1/8",
        "1/8/2",
        "a/b",
        "3.0/8",
        "1/99999999999999999999",
    ] {
        let error = text.parse::<Place>().unwrap_err().to_string();
        assert!(error.contains("k/K"), "{error}");
    }
    for text in ["8/8", "0/0", "1/0"] {
        let error = text.parse::<Place>().unwrap_err().to_string();
        assert!(error.contains("counted from 0"), "{error}");
    }
}

#[test]
fn slurm_arrays_may_begin_anywhere() {
    check(&format!("{ARRAY} SLURM_ARRAY_TASK_ID=2"), 0, 3, SLURM);
    check(&format!("{ARRAY} SLURM_ARRAY_TASK_ID=5"), 1, 3, SLURM);
    check(&format!("{ARRAY} SLURM_ARRAY_TASK_ID=8"), 2, 3, SLURM);
    // The batch script of an array task is told to be process 0 of the two tasks it asked for.
    let batch = "SLURM_ARRAY_TASK_ID=5 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=2";
    check(&format!("{ARRAY} {batch}"), 1, 3, SLURM);
}

#[test]
fn arrays_with_gaps_need_the_size_of_the_whole() {
    let part = "SLURM_ARRAY_TASK_MIN=3 SLURM_ARRAY_TASK_MAX=12 SLURM_ARRAY_TASK_COUNT=4 \
                SLURM_ARRAY_TASK_STEP=1 SLURM_ARRAY_TASK_ID=7";
    refused(part, &["task 7", "4 ids between 3 and 12", ARRAY_COUNT]);
    check(&format!("{part} {ARRAY_COUNT}=16"), 7, 16, SLURM);
    refused(
        &format!("{part} {ARRAY_COUNT}=7"),
        &["SLURM_ARRAY_TASK_ID is 7"],
    );
    refused(&format!("{ARRAY} SLURM_ARRAY_TASK_ID=4"), &["gaps"]);
    refused(&format!("{ARRAY} SLURM_ARRAY_TASK_ID=9"), &["gaps"]);
    let zero = ARRAY.replace("STEP=3", "STEP=0");
    refused(&format!("{zero} SLURM_ARRAY_TASK_ID=2"), &["gaps"]);
    let none = ARRAY.replace("COUNT=3", "COUNT=0");
    refused(&format!("{none} SLURM_ARRAY_TASK_ID=2"), &["gaps"]);
}

#[test]
fn ranks_of_srun_are_those_of_the_step() {
    let step = "SLURM_STEP_ID=0 SLURM_STEPID=0 SLURM_STEP_NUM_TASKS=2";
    let job = "SLURM_NTASKS=4 SLURM_LOCALID=1";
    check(
        &format!("{step} {job} SLURM_PROCID=1"),
        1,
        2,
        Source::Ranks(Ranks::Srun),
    );
    let source = Source::ArrayOfRanks(Ranks::Srun);
    let task = format!("{ARRAY} SLURM_ARRAY_TASK_ID=5 {step} {job} SLURM_PROCID=1");
    check(&task, 3, 6, source);
    assert_eq!(
        detect(&task).unwrap().to_string(),
        "worker 3/6 (by SLURM_ARRAY_TASK_ID and SLURM_PROCID)"
    );
    let single =
        format!("{ARRAY} SLURM_ARRAY_TASK_ID=5 SLURM_STEP_ID=0 SLURM_NTASKS=1 SLURM_PROCID=0");
    check(&single, 1, 3, SLURM);
    // One process each: an allocation's shell and a batch script.
    check("SLURM_NTASKS=4", 0, 1, Source::Alone);
    check("SLURM_NTASKS=4 SLURM_PROCID=0", 0, 1, Source::Alone);
    refused(
        "SLURM_PROCID=2",
        &["SLURM_PROCID is set", "SLURM_NTASKS is not"],
    );
    refused("SLURM_STEP_ID=0 SLURM_NTASKS=4", &["SLURM_PROCID is not"]);
    refused("SLURM_STEP_ID=0 SLURM_PROCID=0", &["SLURM_NTASKS is not"]);
    refused(
        "SLURM_STEP_ID=0 SLURM_PROCID=4 SLURM_NTASKS=4",
        &["SLURM_PROCID is 4"],
    );
}

#[test]
fn every_launcher_is_known() {
    check(
        "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1",
        5,
        8,
        Source::Ranks(Ranks::Torchrun),
    );
    check("RANK=0 WORLD_SIZE=1", 0, 1, Source::Ranks(Ranks::Torchrun));
    check(
        "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=0 PMIX_RANK=2",
        2,
        4,
        Source::Ranks(Ranks::OpenMpi),
    );
    check("PMI_RANK=1 PMI_SIZE=3", 1, 3, Source::Ranks(Ranks::Pmi));
    let pod = format!("JOB_COMPLETION_INDEX=6 {ARRAY_COUNT}=7");
    check(&pod, 6, 7, Source::Array(Array::Kubernetes));
}

#[test]
fn a_partial_set_is_refused() {
    for (text, missing) in [
        ("RANK=1", "WORLD_SIZE"),
        ("WORLD_SIZE=2", "RANK"),
        ("LOCAL_RANK=0", "RANK"),
        ("OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE"),
        ("OMPI_COMM_WORLD_SIZE=1", "OMPI_COMM_WORLD_RANK"),
        ("PMI_RANK=1", "PMI_SIZE"),
        ("PMI_SIZE=1", "PMI_RANK"),
        ("PMIX_RANK=1", "OMPI_COMM_WORLD_SIZE"),
        ("JOB_COMPLETION_INDEX=0", ARRAY_COUNT),
        ("DIFFREP_ARRAY_COUNT=4", "JOB_COMPLETION_INDEX"),
        ("SLURM_ARRAY_TASK_COUNT=4", "SLURM_ARRAY_TASK_ID"),
        ("SLURM_ARRAY_TASK_ID=4", "SLURM_ARRAY_TASK_MIN"),
    ] {
        let missing = format!("{missing} is not");
        refused(text, &[&missing, "say which worker this is"]);
    }
}

#[test]
fn what_is_no_number_is_refused() {
    for value in ["x", "-1", "", "1.5", "0x3", "99999999999999999999999"] {
        let error = Place::detect(|name| match name {
            "RANK" => Some(value.to_owned()),
            "WORLD_SIZE" => Some("4".to_owned()),
            _ => None,
        });
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("RANK is") && error.contains("k/K"),
            "{error}"
        );
    }
    let huge = format!(
        "{ARRAY_COUNT}={} SLURM_ARRAY_TASK_ID=1 RANK=0 WORLD_SIZE=3",
        usize::MAX
    );
    refused(&huge, &["WORLD_SIZE"]);
}

#[test]
fn launchers_within_launchers_agree_or_are_refused() {
    let srun = "SLURM_STEP_ID=0 SLURM_NTASKS=4";
    // srun that passes its ranks on, and srun that speaks PMI.
    check(
        &format!("{srun} SLURM_PROCID=3 RANK=3 WORLD_SIZE=4 PMI_RANK=3 PMI_SIZE=4 PMIX_RANK=3"),
        3,
        4,
        Source::Ranks(Ranks::Srun),
    );
    // A torchrun that srun started once.
    check(
        "SLURM_STEP_ID=0 SLURM_NTASKS=1 SLURM_PROCID=0 RANK=3 WORLD_SIZE=8",
        3,
        8,
        Source::Ranks(Ranks::Torchrun),
    );
    // One that it started on each of four machines: which numbers count?
    refused(
        &format!("{srun} SLURM_PROCID=1 RANK=9 WORLD_SIZE=32"),
        &["SLURM_PROCID 1/4", "RANK 9/32", "disagree"],
    );
    // torchrun in each task of an array.
    check(
        &format!("{ARRAY} SLURM_ARRAY_TASK_ID=8 RANK=1 WORLD_SIZE=4"),
        9,
        12,
        Source::ArrayOfRanks(Ranks::Torchrun),
    );
    // torchrun in pods: over all pods, or in each one?
    let pod = "JOB_COMPLETION_INDEX=1 RANK=1 WORLD_SIZE=4";
    check(pod, 1, 4, Source::Ranks(Ranks::Torchrun));
    refused(
        &format!("{pod} {ARRAY_COUNT}=2"),
        &["JOB_COMPLETION_INDEX 1/2", "RANK 1/4"],
    );
    check(
        &format!("JOB_COMPLETION_INDEX=1 {ARRAY_COUNT}=2 RANK=0 WORLD_SIZE=1"),
        1,
        2,
        Source::Array(Array::Kubernetes),
    );
}

#[test]
fn the_device_is_chosen_by_the_innermost_launcher() {
    let local = |text: &str| {
        let environment = environment(text);
        local_index(|name| environment.get(name).cloned())
    };
    assert_eq!(local("").unwrap(), None);
    assert_eq!(local("SLURM_LOCALID=3").unwrap(), Some(3));
    assert_eq!(local("SLURM_LOCALID=0 LOCAL_RANK=2").unwrap(), Some(2));
    assert_eq!(local("OMPI_COMM_WORLD_LOCAL_RANK=1").unwrap(), Some(1));
    assert_eq!(local("MPI_LOCALRANKID=5").unwrap(), Some(5));
    assert!(
        local("LOCAL_RANK=gpu")
            .unwrap_err()
            .to_string()
            .contains("LOCAL_RANK")
    );
}

proptest! {
    #[test]
    fn the_ranks_of_an_array_are_numbered_through(
        first in 0usize..50,
        step in 1usize..9,
        tasks in 1usize..20,
        ranks in 1usize..9,
    ) {
        let mut seen = vec![0; tasks * ranks];
        for task in 0..tasks {
            for rank in 0..ranks {
                let text = format!(
                    "SLURM_ARRAY_TASK_ID={} SLURM_ARRAY_TASK_MIN={first} SLURM_ARRAY_TASK_MAX={} \
                     SLURM_ARRAY_TASK_COUNT={tasks} SLURM_ARRAY_TASK_STEP={step} SLURM_STEP_ID=0 \
                     SLURM_PROCID={rank} SLURM_NTASKS={ranks}",
                    first + task * step,
                    first + (tasks - 1) * step,
                );
                let place = detect(&text).unwrap();
                prop_assert_eq!(place.count, tasks * ranks);
                seen[place.index] += 1;
            }
        }
        prop_assert!(seen.iter().all(|&seen| seen == 1));
    }

    #[test]
    fn no_environment_panics(values in prop::collection::vec(prop::option::of("[0-9]{0,3}|-1|x|18446744073709551615"), 16)) {
        let names = [
            "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX",
            "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_STEP", "SLURM_STEP_ID",
            "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_NTASKS", "RANK", "WORLD_SIZE",
            "PMI_RANK", "PMI_SIZE", "JOB_COMPLETION_INDEX", ARRAY_COUNT, "PMIX_RANK",
        ];
        let place = Place::detect(|name| {
            let index = names.iter().position(|known| *known == name)?;
            values[index].clone()
        });
        if let Ok(place) = place {
            prop_assert!(place.index < place.count);
        }
    }
}
