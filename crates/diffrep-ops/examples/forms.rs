use burn::tensor::{Device, Distribution, Tensor};
use diffrep_ops::{PackedConv, conv2d_same};
use std::time::Instant;
fn main() {
    let device = Device::flex();
    let uniform =
        |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Uniform(-1.0, 1.0), &device);
    for [i, o, k, s] in std::env::args()
        .nth(1)
        .map_or(vec![], |_| vec![[256, 256, 3, 256]])
        .into_iter()
        .chain(
            [
                [256, 256, 3, 256],
                [256, 256, 3, 128],
                [512, 512, 3, 64],
                [512, 512, 3, 32],
                [1024, 1024, 3, 16],
                [2048, 1024, 3, 16],
                [1024, 1024, 3, 8],
                [2048, 1024, 3, 8],
                [1024, 3072, 1, 16],
                [2048, 1024, 1, 16],
                [512, 512, 1, 64],
            ]
            .into_iter()
            .skip(if std::env::args().len() > 1 { 99 } else { 0 }),
        )
    {
        let x = uniform([1, i, s, s]);
        let w = uniform([o, i, k, k]) / ((i * k * k) as f32).sqrt();
        let b = Tensor::<1>::zeros([o], &device);
        let frozen = PackedConv::new(w.clone(), b.clone(), [s, s]);
        let gf = 2e-9 * (i * o * k * k * s * s) as f64;
        let time = |f: &dyn Fn() -> Tensor<4>| {
            let mut best = f64::MAX;
            for _ in 0..4 {
                let t = Instant::now();
                let y = f();
                std::hint::black_box(y.dims());
                best = best.min(t.elapsed().as_secs_f64());
            }
            best
        };
        let tf = time(&|| frozen.forward(x.clone()));
        let td = if gf < 25.0 {
            time(&|| conv2d_same(x.clone(), w.clone(), b.clone()))
        } else {
            f64::NAN
        };
        let err = if gf < 25.0 {
            let a = frozen.forward(x.clone());
            let c = conv2d_same(x.clone(), w.clone(), b.clone());
            let d: f32 = (a - c.clone()).abs().max().into_scalar();
            let m: f32 = c.abs().max().into_scalar();
            d / m
        } else {
            f32::NAN
        };
        println!(
            "{i}->{o} k{k} {s}: frozen {:.1} ms = {:.0} GF/s  direct {:.1} ms = {:.0} GF/s  err {err:.2e}",
            tf * 1e3,
            gf / tf,
            td * 1e3,
            gf / td
        );
    }
}
