//! Memory that kernels write and forget, kept by each thread: asking the system for it anew costs a page fault every 4 KiB.

use std::cell::RefCell;

thread_local! {
    /// Buffers that are not in use. A list, because a kernel may need several at once.
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Elements of a cache line: buffers start at one, lest every register that is loaded lie in two.
const LINE: usize = 16;

/// Calls `body` with `len` elements whose values are whatever was left there.
pub(super) fn with<T>(len: usize, body: impl FnOnce(&mut [f32]) -> T) -> T {
    let mut buffer = FREE.with(|free| free.borrow_mut().pop()).unwrap_or_default();
    if buffer.len() < len + LINE {
        buffer.resize(len + LINE, 0.0);
    }
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let result = body(&mut buffer[start..start + len]);
    FREE.with(|free| free.borrow_mut().push(buffer));
    result
}
