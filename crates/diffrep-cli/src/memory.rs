//! Memory between two feature maps.

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
