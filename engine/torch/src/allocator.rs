//! The C library's allocator, set to keep what a training step frees for the next step.
//!
//! libtorch allocates every intermediate result with `malloc`. By default glibc gives large blocks back to the kernel as
//! soon as they are free, and every step then faults the same pages in again: 4 % of a step's time on MiniLM.
//! Contract: memory stays at the peak of the largest step until the process ends. Where the environment sets the
//! allocator (`GLIBC_TUNABLES`), that is left alone.

/// Keeps freed memory; does nothing where the C library is another one.
pub(super) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("GLIBC_TUNABLES").is_none() {
        set();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
fn set() {
    /// Larger blocks are mapped by themselves and unmapped when free: the most that glibc allows.
    const MAPPED_FROM: i32 = 32 << 20;
    /// A thread's heap is at most 64 MiB long and would be unmapped when empty; with more than that to spare, it is not.
    const SPARE: i32 = 128 << 20;
    for (parameter, value) in
        [(libc::M_MMAP_THRESHOLD, MAPPED_FROM), (libc::M_TRIM_THRESHOLD, i32::MAX), (libc::M_TOP_PAD, SPARE)]
    {
        // SAFETY: mallopt takes the allocator's lock and sets a number; it touches no memory of ours. A value that it
        // refuses leaves the default, which is slower and right.
        unsafe { libc::mallopt(parameter, value) };
    }
}
