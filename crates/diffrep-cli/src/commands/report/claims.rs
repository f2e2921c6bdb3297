//! Which of the paper's claims hold: decided anew from what each test image was classified as.

use anyhow::{Result, bail};
use diffrep_plan::{Expectation, PaperClaim};
use diffrep_stats::{PairedDifference, Verdict, paired_bootstrap_seeds, verdict};
use serde::Serialize;

use crate::commands::reproduce::told::{Standing, Told};

const RESAMPLES: usize = 10_000;
const LEVEL: f64 = 0.95;

/// A claim of the paper with its answer at one scale.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Judged {
    pub(crate) experiment: String,
    pub(crate) scale: String,
    pub(crate) claim: String,
    /// Where the paper makes it.
    pub(crate) at: String,
    pub(crate) verdict: Verdict,
    /// What decides it; the claim holds if all of these say so.
    pub(crate) pairs: Vec<Pair>,
    /// The images that decide it.
    pub(crate) on: String,
}

/// One comparison of a claim.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Pair {
    /// What is compared, such as `attention` and `linear`; empty where the claim itself says it.
    pub(crate) sides: Vec<String>,
    pub(crate) difference: PairedDifference,
    pub(crate) verdict: Verdict,
}

impl Judged {
    /// The comparison that decides the claim: the weakest of those that all hold, else the clearest of those
    /// that speak against it, else the first that is undecided.
    pub(crate) fn decisive(&self) -> Option<&Pair> {
        let with = |answer: Verdict| self.pairs.iter().filter(move |pair| pair.verdict == answer);
        let by_low = |a: &&Pair, b: &&Pair| a.difference.low.total_cmp(&b.difference.low);
        match self.verdict {
            Verdict::Yes => with(Verdict::Yes).min_by(by_low),
            Verdict::No => with(Verdict::No).max_by(|a, b| {
                let size = |pair: &Pair| pair.difference.difference.abs();
                size(a).total_cmp(&size(b))
            }),
            Verdict::Undecided => with(Verdict::Undecided).next(),
        }
    }
}

/// The paper's claims that an experiment, or one of its data sets, decides.
pub(super) fn judge(told: &Told) -> Result<Vec<Judged>> {
    let mut judged = Vec::new();
    for claim in &told.claims {
        if let Some(pairs) = claim.pairs.get(&told.scale) {
            judged.push(decide(told, claim, pairs)?);
        }
    }
    judged.extend(told.found.decided.iter().map(|decided| Judged {
        experiment: told.name.clone(),
        scale: told.scale.clone(),
        claim: decided.text.clone(),
        at: match told.name.as_str() {
            name if name.starts_with("figure2") => "after Section 4.1.1, Figure 2".into(),
            name if name.starts_with("figure5") => "after Section 4.2, Figure 5".into(),
            // Of an experiment of one's own the paper says nothing.
            _ => "this experiment".into(),
        },
        verdict: decided.verdict,
        pairs: vec![Pair {
            sides: Vec::new(),
            difference: decided.difference,
            verdict: decided.verdict,
        }],
        on: decided.on.clone(),
    }));
    for part in &told.parts {
        judged.extend(judge(part)?);
    }
    Ok(judged)
}

fn decide(told: &Told, claim: &PaperClaim, pairs: &[[String; 2]]) -> Result<Judged> {
    let standing = |name: &String| -> Result<&Standing> {
        match told.found.standings.iter().find(|one| one.name == *name) {
            Some(one) => Ok(one),
            None => bail!(
                "{} has no `{name}`, which the claim \"{}\" is about: its record is of another version of \
                 the experiment; run it again",
                told.dir.display(),
                claim.text
            ),
        }
    };
    let pairs = pairs.iter().map(|[ahead, behind]| {
        let (one, other) = (standing(ahead)?, standing(behind)?);
        let difference = paired_bootstrap_seeds(&one.correct, &other.correct, RESAMPLES, LEVEL, 0)?;
        Ok(Pair {
            sides: vec![ahead.clone(), behind.clone()],
            verdict: answer(&difference, claim.expects),
            difference,
        })
    });
    let pairs: Vec<Pair> = pairs.collect::<Result<_>>()?;
    Ok(Judged {
        experiment: told.name.clone(),
        scale: told.scale.clone(),
        claim: match told.name.split_once('/') {
            None => claim.text.clone(),
            Some((_, data)) => format!("{} ({data})", claim.text),
        },
        at: claim.at.clone(),
        verdict: all(pairs.iter().map(|pair| pair.verdict)),
        pairs,
        on: "test images, each seed averaged".into(),
    })
}

/// What one comparison says about an expectation.
fn answer(difference: &PairedDifference, expects: Expectation) -> Verdict {
    match expects {
        Expectation::Ahead => verdict(difference, 0.0),
        Expectation::Within(points) => {
            let margin = points / 100.0;
            if -margin <= difference.low && difference.high <= margin {
                Verdict::Yes
            } else if difference.low > margin || difference.high < -margin {
                Verdict::No
            } else {
                Verdict::Undecided
            }
        }
    }
}

/// Yes if all say so, no if one does.
fn all(answers: impl Iterator<Item = Verdict>) -> Verdict {
    answers.fold(Verdict::Yes, |all, one| match (all, one) {
        (Verdict::No, _) | (_, Verdict::No) => Verdict::No,
        (Verdict::Undecided, _) | (_, Verdict::Undecided) => Verdict::Undecided,
        _ => Verdict::Yes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(low: f64, high: f64) -> PairedDifference {
        PairedDifference {
            difference: (low + high) / 2.0,
            low,
            high,
            level: LEVEL,
            n: 100,
            resamples: RESAMPLES,
            p_value: 0.5,
        }
    }

    #[test]
    fn no_difference_is_claimed_with_a_margin() {
        let within = Expectation::Within(1.0);
        assert_eq!(answer(&difference(-0.009, 0.004), within), Verdict::Yes);
        assert_eq!(answer(&difference(-0.05, -0.02), within), Verdict::No);
        assert_eq!(answer(&difference(0.02, 0.05), within), Verdict::No);
        assert_eq!(answer(&difference(-0.02, 0.0), within), Verdict::Undecided);
        assert_eq!(
            answer(&difference(0.001, 0.02), Expectation::Ahead),
            Verdict::Yes
        );
    }

    #[test]
    fn a_claim_is_as_good_as_its_weakest_comparison() {
        use Verdict::{No, Undecided, Yes};
        assert_eq!(all([Yes, Yes].into_iter()), Yes);
        assert_eq!(all([Yes, Undecided].into_iter()), Undecided);
        assert_eq!(all([Undecided, No, Yes].into_iter()), No);
        let pair = |low: f64, high: f64| {
            let difference = difference(low, high);
            Pair {
                sides: Vec::new(),
                verdict: verdict(&difference, 0.0),
                difference,
            }
        };
        let pairs = vec![pair(0.1, 0.2), pair(0.01, 0.3), pair(0.05, 0.06)];
        let mut judged = Judged {
            experiment: "e".into(),
            scale: "mini".into(),
            claim: "c".into(),
            at: "Table 1".into(),
            verdict: Yes,
            pairs,
            on: "images".into(),
        };
        assert_eq!(judged.decisive().unwrap().difference.low, 0.01);
        judged.pairs.push(pair(-0.3, -0.2));
        judged.pairs.push(pair(-0.1, -0.05));
        judged.verdict = No;
        assert_eq!(judged.decisive().unwrap().difference.low, -0.3);
    }
}
