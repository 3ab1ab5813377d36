//! Memory that this process holds.

use std::fs;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;

use super::check;

/// Gives back the pages of the executable and of other mapped files that this process can't write
/// to and never changed (madvise(2), MADV_DONTNEED). They stay in the kernel's cache, from where
/// those that are used again come back by themselves. Which mappings these are is found out the
/// first time: nothing is to happen afterwards that would bring many of them back.
pub fn give_back_files() -> io::Result<()> {
    static FOUND: OnceLock<Vec<Range<usize>>> = OnceLock::new();
    let ranges = match FOUND.get() {
        Some(ranges) => ranges,
        None => {
            let found = unchanged(&fs::read_to_string("/proc/self/smaps")?);
            FOUND.get_or_init(|| found)
        }
    };
    for range in ranges {
        let (start, length) = (range.start as *mut libc::c_void, range.len());
        // SAFETY: the range was a mapping of a file as the kernel listed it. It was not writable
        // and no page of it differed from the file. No program of ours maps another file, unloads
        // code or makes it writable, so that is still so, and whoever reads it afterwards, this
        // code included, reads the same bytes as before.
        check(i64::from(unsafe {
            libc::madvise(start, length, libc::MADV_DONTNEED)
        }))?;
    }
    Ok(())
}

/// Gives back the pages of the heap that nothing is in any more (malloc_trim(3)). By itself the
/// allocator keeps them, up to all that was ever in use at once.
pub fn give_back_heap() {
    // Other allocators have no such function, and give pages back by themselves.
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number and touches only memory that is free, under the allocator's locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The mappings of files in a text like proc_pid_smaps(5) that are read-only and without a page
/// that was changed.
fn unchanged(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if let Some((start, end)) = first.split_once('-') {
            let of_file = words.nth(2).is_some_and(|inode| inode != "0");
            let hex = |text| usize::from_str_radix(text, 16).ok();
            candidate = match (hex(start), hex(end)) {
                (Some(start), Some(end)) if of_file && !second.contains('w') => Some(start..end),
                _ => None,
            };
        } else if first == "Anonymous:" && second == "0" {
            found.extend(candidate.take());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_same_in_the_file_is_given_back() {
        let smaps = "\
1000-2000 r-xp 00000000 00:1e 77                         /cask
Rss:                   4 kB
Anonymous:             0 kB
2000-3000 r--p 00001000 00:1e 77                         /cask
Anonymous:             4 kB
3000-4000 rw-p 00002000 00:1e 77                         /cask
Anonymous:             0 kB
4000-5000 r--p 00000000 00:00 0                          [vvar]
Anonymous:             0 kB
";
        let found = unchanged(smaps);
        let ends: Vec<_> = found.iter().map(|range| (range.start, range.end)).collect();
        assert_eq!(ends, [(0x1000, 0x2000)]);
    }

    #[test]
    fn a_process_goes_on_without_its_pages() {
        for number in 0..2 {
            give_back_files().unwrap();
            assert_eq!(format!("{:?}", Some(number)), format!("Some({number})"));
        }
    }
}
