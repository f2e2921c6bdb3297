//! What the process asks of the system: memory kept between two feature maps, and what it has used.

/// Lets the allocator keep what is freed for the next map. Maps of large images are hundreds of
/// megabytes, which glibc returns to the system at once, and fresh memory costs a page fault every
/// 4096 bytes: a tenth of the time of an image of 256 x 256 pixels.
pub(crate) fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "mallopt has no safe form")]
    // SAFETY: called once, before there is a second thread; a refused option changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// What this process has used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Time of all threads on processors, in the program and in the system.
    pub(crate) processor_seconds: f64,
}

/// What this process has used, where the system tells.
pub(crate) fn usage() -> Option<Usage> {
    #[cfg(unix)]
    #[allow(unsafe_code, reason = "getrusage has no safe form in libc")]
    {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
        // SAFETY: the system fills the whole structure when it returns 0, and it is read only then.
        let usage = unsafe {
            if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
                return None;
            }
            usage.assume_init()
        };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        Some(Usage {
            processor_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        })
    }
    #[cfg(not(unix))]
    None
}
