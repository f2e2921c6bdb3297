//! What the process asks of the system: memory kept between two feature maps, and what it has used.

use std::alloc::{GlobalAlloc, Layout, System};

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

/// The system's allocator, which asks for pages of 2 MiB below large blocks. Weights and maps are written from end to
/// end as soon as they are there, and where the system gives such pages only if asked (Linux, by default), a page
/// fault every 4096 bytes took three times the time of reading the bytes themselves.
pub(crate) struct LargePages;

/// Blocks of this size and more: two such pages, so that what is rounded up is little.
const LARGE: usize = 4 << 20;

#[allow(unsafe_code, reason = "an allocator has no safe form")]
// SAFETY: all blocks are the system allocator's, whose rules are these; asking for large pages changes no content.
unsafe impl GlobalAlloc for LargePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as promised by the caller.
        ask_for_large_pages(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as promised by the caller.
        ask_for_large_pages(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as promised by the caller.
        ask_for_large_pages(unsafe { System.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Hands the block on.
fn ask_for_large_pages(block: *mut u8, size: usize) -> *mut u8 {
    #[cfg(target_os = "linux")]
    if size >= LARGE && !block.is_null() {
        const PAGE: usize = 4096;
        let start = (block as usize).next_multiple_of(PAGE);
        let end = (block as usize + size) / PAGE * PAGE;
        #[allow(unsafe_code, reason = "madvise has no safe form")]
        // SAFETY: the pages lie within a block that is the caller's; a refused wish changes nothing.
        unsafe {
            libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE);
        }
    }
    let _ = size;
    block
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
