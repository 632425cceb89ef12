//! Memory for session tables: huge pages where the machine has them.

use memmap2::{MmapMut, MmapOptions};

/// What the memory is made of: a figure without it means little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Reserved 2 MiB pages.
    Huge,
    /// Transparent huge pages were asked for.
    Transparent,
}

impl Pages {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Pages::Huge => "2 MiB huge pages",
            Pages::Transparent => "ordinary pages, transparent huge pages asked for",
        }
    }
}

const HUGE_PAGE: usize = 2 << 20;

/// A zeroed region of at least `bytes`, page-aligned, never given back.
pub fn zeroed(bytes: usize) -> std::io::Result<(&'static mut [u8], Pages)> {
    let rounded = bytes.next_multiple_of(HUGE_PAGE);
    let (map, pages) = match MmapOptions::new().len(rounded).huge(Some(21)).populate().map_anon() {
        Ok(map) => (map, Pages::Huge),
        Err(_) => {
            let map = MmapOptions::new().len(rounded).map_anon()?;
            // Without them the run is slower and the printed page size says so.
            let _ = map.advise(memmap2::Advice::HugePage);
            (map, Pages::Transparent)
        }
    };
    let map: &'static mut MmapMut = Box::leak(Box::new(map));
    Ok((&mut map[..], pages))
}
