//! Memory for tables that are read here and there.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::MmapMut;

/// A fixed number of entries, at first all zero, in pages as large as the system gives: a lookup that misses the cache
/// should not look for its page too, and filling a large table should not fault at every 4 KiB.
pub(super) struct Table<T> {
    map: MmapMut,
    entries: PhantomData<T>,
}

impl<T: Pod> Table<T> {
    /// `num_entries` zeros. Panics where the system has no memory left, as a vector would.
    pub(super) fn new(num_entries: usize) -> Self {
        let num_bytes = num_entries * size_of::<T>();
        let map =
            MmapMut::map_anon(num_bytes).unwrap_or_else(|error| panic!("no memory for {num_bytes} bytes: {error}"));
        // A system without huge pages refuses, and then the pages are small ones.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Self { map, entries: PhantomData }
    }
}

impl<T: Pod> Deref for Table<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.map)
    }
}

impl<T: Pod> DerefMut for Table<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.map)
    }
}
