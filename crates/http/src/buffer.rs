//! Buffers that are lent to connections while they have something to do.
//!
//! A thread keeps a bounded number of free ones. They are thread-local and not handed through every call,
//! since streams that a library drives (`h2`) need them as well, with no place for another argument.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Bytes of an ordinary buffer: most requests and responses fit whole.
pub const BUFFER_BYTES: usize = 16 * 1024;

/// Bytes that an output begins with: a head and a short body.
const OUTPUT_BYTES: usize = 4 * 1024;
/// Bytes of a buffer of a connection that moves much.
pub const LARGE_BUFFER_BYTES: usize = 256 * 1024;

/// Free buffers that a thread keeps, of each kind; beyond, they are given back to the allocator.
const FREE_MAX: usize = 64;
/// Free large buffers that a thread keeps.
const FREE_LARGE_MAX: usize = 4;

thread_local! {
    static FREE_LARGE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static FREE_OUTPUTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that have been read and not yet been used up. Its memory is initialised once, so that reading into it
/// costs nothing but the read.
#[derive(Debug)]
pub struct Buffer {
    /// Empty while no memory is held.
    storage: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Buffer {
    /// An empty buffer that holds no memory until something is put into it.
    pub const fn new() -> Self {
        Self { storage: Vec::new(), start: 0, end: 0 }
    }

    /// A buffer with these bytes.
    pub fn with(bytes: &[u8]) -> Self {
        let mut buffer = Self::new();
        buffer.append(bytes);
        buffer
    }

    /// The bytes to be used.
    pub fn filled(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Bytes that fit without more memory.
    pub fn capacity(&self) -> usize {
        self.storage.len()
    }

    /// Takes bytes away from the front. With the last one ordinary memory goes back to the thread; a large buffer
    /// stays until nothing comes for a moment.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len(), "more is consumed than there is");
        self.start = self.end.min(self.start + count);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.storage.len() < LARGE_BUFFER_BYTES {
                self.release();
            }
        }
    }

    /// Adds bytes behind those that are there.
    pub fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.space(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Room for at least `least` bytes (1 or more) behind those that are there; [`Buffer::advance`] says how
    /// many of them were written.
    pub fn space(&mut self, least: usize) -> &mut [u8] {
        if self.storage.is_empty() {
            self.storage = FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        }
        if self.storage.len() - self.end < least && self.start > 0 {
            self.storage.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.storage.len() - self.end < least {
            let bytes = (self.end + least).max(self.storage.len() * 2);
            self.storage.resize(bytes, 0);
        }
        &mut self.storage[self.end..]
    }

    /// Takes a large buffer in place of an ordinary one, where a connection moves much at a time.
    pub fn enlarge(&mut self) {
        if self.storage.len() >= LARGE_BUFFER_BYTES {
            return;
        }
        let taken = FREE_LARGE.with_borrow_mut(Vec::pop);
        let mut large = taken.unwrap_or_else(|| vec![0; LARGE_BUFFER_BYTES]);
        let length = self.len();
        large[..length].copy_from_slice(self.filled());
        self.release();
        self.storage = large;
        self.end = length;
    }

    /// Says that `count` bytes of [`Buffer::space`] were written.
    pub fn advance(&mut self, count: usize) {
        self.end = self.storage.len().min(self.end + count);
    }

    /// Gives the memory back, and what is in it up.
    pub fn release(&mut self) {
        self.start = 0;
        self.end = 0;
        give_back(std::mem::take(&mut self.storage));
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.release();
    }
}

/// Bytes that are made up to be written: a growing vector whose memory comes from the thread and goes back.
#[derive(Debug)]
pub struct Output(Vec<u8>);

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

impl Output {
    /// An empty one.
    pub fn new() -> Self {
        let taken = FREE_OUTPUTS.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        Self(taken.unwrap_or_else(|| Vec::with_capacity(OUTPUT_BYTES)))
    }
}

impl Deref for Output {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Output {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.0);
        memory.clear();
        if memory.capacity() <= 2 * OUTPUT_BYTES {
            keep(&FREE_OUTPUTS, memory, FREE_MAX);
        }
    }
}

type FreeList = std::thread::LocalKey<RefCell<Vec<Vec<u8>>>>;

/// Other sizes are not kept: a buffer that has grown for one connection would be too large for the next.
fn give_back(memory: Vec<u8>) {
    match memory.len() {
        BUFFER_BYTES => keep(&FREE, memory, FREE_MAX),
        LARGE_BUFFER_BYTES => keep(&FREE_LARGE, memory, FREE_LARGE_MAX),
        _ => {}
    }
}

fn keep(free: &'static FreeList, memory: Vec<u8>, most: usize) {
    // The thread may be ending, its free list with it.
    let _ = free.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < most {
            free.push(memory);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut buffer = Buffer::new();
        assert_eq!(buffer.capacity(), 0);
        let mut expected = Vec::new();
        for round in 0..100_u8 {
            let bytes = vec![round; 700];
            buffer.append(&bytes);
            expected.extend_from_slice(&bytes);
            buffer.consume(300);
            expected.drain(..300);
            assert_eq!(buffer.filled(), expected);
        }
        buffer.consume(buffer.len());
        assert_eq!((buffer.len(), buffer.capacity()), (0, 0));
    }

    #[test]
    fn an_empty_buffer_holds_no_memory_and_freed_memory_is_used_again() {
        FREE.with_borrow_mut(Vec::clear);
        let mut buffer = Buffer::with(b"x");
        let memory = buffer.filled().as_ptr();
        buffer.consume(1);
        assert_eq!(Buffer::with(b"y").filled().as_ptr(), memory);
        let mut grown = Buffer::new();
        grown.append(&vec![0; 3 * BUFFER_BYTES]);
        drop(grown);
        let mut large = Buffer::with(b"ab");
        large.consume(1);
        large.enlarge();
        assert_eq!((large.filled(), large.capacity()), (&b"b"[..], LARGE_BUFFER_BYTES));
        drop(large);
        FREE_LARGE.with_borrow(|free| assert_eq!(free.len(), 1));
        FREE.with_borrow(|free| assert!(free.iter().all(|memory| memory.len() == BUFFER_BYTES)));
    }

    #[test]
    fn the_free_list_is_bounded() {
        let buffers: Vec<_> = (0..FREE_MAX + 10).map(|_| Buffer::with(b"x")).collect();
        drop(buffers);
        FREE.with_borrow(|free| assert_eq!(free.len(), FREE_MAX));
    }
}
