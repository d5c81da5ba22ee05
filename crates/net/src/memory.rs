//! Memory that this process does not need at the moment, given back to the system.
//!
//! Two kinds pile up: pages of the program that only its start used, and pages of the heap that a load has left free.
//! What is needed again comes back by itself, so nothing here has to know what that is.

#![expect(unsafe_code, reason = "allocator and linker are asked by calls of the C library")]

use std::ffi::c_void;

use rustix::mm::Advice;

/// Gives back free pages of the heap, and the pages of code and constants that this process has mapped. Those that are used again are
/// mapped again from the page cache, 64 KiB and about a microsecond at a time; no file is read for it unless the system itself is short of memory.
///
/// Breakpoints that a tracer has written into the code (uprobes) are lost.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time from any thread; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
    // SAFETY: `give_back_segments` is a function of the type asked for, does not unwind, and no data is handed through.
    unsafe {
        libc::dl_iterate_phdr(Some(give_back_segments), std::ptr::null_mut());
    }
}

/// Bytes of the heap that are free, whether or not pages of the system are behind them. 0 where the C library does not tell.
///
/// Walks the free lists: some microseconds.
pub fn free_heap_bytes() -> usize {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time from any thread; it takes the allocator's own locks and returns plain numbers.
    let free = unsafe { libc::mallinfo2().fordblks };
    #[cfg(not(target_env = "gnu"))]
    let free = 0;
    free
}

/// Whether a segment's memory is what stands in its file, and stays so.
fn is_never_written(header: &libc::Elf64_Phdr) -> bool {
    header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0
}

unsafe extern "C" fn give_back_segments(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> i32 {
    // SAFETY: the linker hands a valid object and holds its lock while this runs.
    let object = unsafe { &*object };
    if object.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the linker says where the headers are and how many; they are part of the loaded object.
    let headers =
        unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    let page = rustix::param::page_size();
    for header in headers.iter().filter(|header| is_never_written(header)) {
        let (Ok(begin), Ok(size)) = (
            usize::try_from(object.dlpi_addr.wrapping_add(header.p_vaddr)),
            usize::try_from(header.p_memsz),
        ) else {
            continue;
        };
        // The last page may be shared with a segment that is written: it stays.
        let (begin, end) = (begin & !(page - 1), (begin + size) & !(page - 1));
        if begin < end {
            // SAFETY: a segment that nobody may write to is a private mapping of a file, or the kernel's own vDSO, whose pages
            // come back with the same content on the next access. Relocations are only in writable segments: the
            // toolchain makes no program with relocations in its code. Advice that the kernel does not take changes nothing.
            let _ = unsafe {
                rustix::mm::madvise(begin as *mut c_void, end - begin, Advice::LinuxDontNeed)
            };
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// One test at a time: they give back the memory of the whole process.
    static ALONE: Mutex<()> = Mutex::new(());

    fn resident_bytes(of: &str) -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(of)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn free_pages_of_the_heap_and_of_the_program_are_given_back() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // Small pieces, every sixteenth of which stays: the end of the heap does not become free by itself.
        let mut pieces: Vec<_> =
            (0..64 * 256_usize).map(|piece| Some(vec![1_u8; 4096 - piece % 2])).collect();
        for (number, piece) in pieces.iter_mut().enumerate() {
            if number % 16 != 0 {
                *piece = None;
            }
        }
        assert!(free_heap_bytes() > 32 * 1024 * 1024, "{} bytes free", free_heap_bytes());
        let (heap, program) = (resident_bytes("RssAnon"), resident_bytes("RssFile"));
        give_back();
        assert!(resident_bytes("RssFile") < program, "no page of the program was given back");
        assert!(
            resident_bytes("RssAnon") + 32 * 1024 * 1024 < heap,
            "{heap} bytes before, {} after",
            resident_bytes("RssAnon")
        );
        assert!(pieces.iter().flatten().all(|piece| piece.iter().all(|byte| *byte == 1)));
    }

    #[test]
    fn what_is_used_is_there_again_while_other_threads_run() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let threads: Vec<_> = (0..4_u64)
            .map(|seed| {
                std::thread::spawn(move || {
                    (0..200_000_u64).map(|n| format!("{}", n ^ seed).len() as u64).sum::<u64>()
                })
            })
            .collect();
        for _ in 0..50 {
            give_back();
        }
        let sums: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(sums.iter().all(|sum| *sum > 0));
    }
}
