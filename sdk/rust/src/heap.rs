//! The heap of handlers without WASI.
//!
//! That of Rust's standard library grows the memory for its first allocation there, and growing costs more than all else
//! that an instance does. This one begins with room that the memory has from its start.

#![allow(unsafe_code)] // An allocator is nothing else.

use std::alloc::Layout;
use std::arch::wasm32::memory_grow;

use talc::base::{Talc, binning::Binning};
use talc::cell::TalcSyncCell;
use talc::source::Source;
use talc::wasm::WasmBinning;

/// Bytes of a page of memory.
const PAGE: usize = 64 * 1024;

/// Where the allocator has its memory from: one page that is part of the module's zeros first, then what it grows.
#[derive(Debug)]
struct Pages {
    first: Option<*mut [u8; PAGE]>,
}

// SAFETY: allocates nothing itself.
unsafe impl Source for Pages {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let (base, size) = match talc.source.first.take() {
            Some(first) => (first.cast(), PAGE),
            None => {
                // What the allocator keeps beside an allocation is far less than a page.
                let pages = (layout.size() + layout.align()).div_ceil(PAGE) + 1;
                let before = memory_grow::<0>(pages);
                if before == usize::MAX {
                    return Err(());
                }
                ((before * PAGE) as *mut u8, pages * PAGE)
            }
        };
        // SAFETY: nobody else has the static, of which this is the only taker, nor pages that were grown just now.
        unsafe { talc.claim(base, size) }.map(drop).ok_or(())
    }
}

#[global_allocator]
static HEAP: TalcSyncCell<Pages, WasmBinning> = {
    static mut FIRST: [u8; PAGE] = [0; PAGE];
    TalcSyncCell::new_wasm(Pages { first: Some(&raw mut FIRST) })
};
