//! The program's allocator.
//!
//! A training step allocates and frees the same large tensors over and over. The system's allocator hands
//! their pages back each time and takes them again; jemalloc is configured to keep them, and puts large blocks
//! where they leave few gaps.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads before `main`: free pages are kept, however long and however large the block was,
/// huge ones are asked for, and all threads share them.
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: &[u8; 78] =
    b"narenas:1,dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0,thp:always\0";
