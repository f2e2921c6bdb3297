//! Plain loops compiled for the widest vector instructions that a processor has.

/// What runs under the widest vector instructions of this processor.
pub(super) trait Job {
    type Output;
    fn run(self) -> Self::Output;
}

/// Runs `job` compiled for the widest instruction set that the processor has.
pub(super) fn dispatch<J: Job>(job: J) -> J::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,fma")]
        fn widest<J: Job>(job: J) -> J::Output {
            job.run()
        }
        #[target_feature(enable = "avx2,fma")]
        fn wide<J: Job>(job: J) -> J::Output {
            job.run()
        }
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("fma")
        {
            // SAFETY: the features were just tested.
            return unsafe { widest(job) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the features were just tested.
            return unsafe { wide(job) };
        }
    }
    job.run()
}
