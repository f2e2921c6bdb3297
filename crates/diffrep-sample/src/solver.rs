//! DPM-Solver++ 2M (Lu et al. 2022, algorithm 2): a step that also looks at the step before.

use burn::tensor::Tensor;
use diffrep_schedule::Schedule;

/// What the last step saw: half the log of the signal-to-noise ratio, and the image predicted there.
#[derive(Debug, Default)]
pub(crate) struct Multistep {
    last: Option<(f64, Tensor<4>)>,
}

/// Half the log of the signal-to-noise ratio at a given alpha-bar.
fn lambda(bar: f64) -> f64 {
    0.5 * (bar / (1.0 - bar)).ln()
}

impl Multistep {
    /// x at the step before `index` in the schedule, from x and the image predicted at `index`. The
    /// last step goes to the predicted image itself.
    pub(crate) fn step(
        &mut self,
        schedule: &Schedule,
        x0: &Tensor<4>,
        x: Tensor<4>,
        index: usize,
    ) -> Tensor<4> {
        let (bar, next) = (
            schedule.alphas_cumprod[index],
            schedule.alphas_cumprod_prev[index],
        );
        if index == 0 {
            return x0.clone();
        }
        let (here, there) = (lambda(bar), lambda(next));
        let h = there - here;
        let change = next.sqrt() * -(-h).exp_m1();
        let direction = match self.last.take() {
            None => x0.clone(),
            Some((before, image)) => {
                let share = 0.5 * h / (here - before);
                x0.clone() * (1.0 + share) - image * share
            }
        };
        self.last = Some((here, x0.clone()));
        x * ((1.0 - next) / (1.0 - bar)).sqrt() + direction * change
    }
}
