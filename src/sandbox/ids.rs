//! Ids that change places in a user namespace below ours.
//!
//! What `/proc/self/uid_map` says goes in, what is to be written comes out (user_namespaces(7)).

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A user and a group that change places with 0: a program that runs as them has the ids that
/// root has around it, and all others stay what they are. Each is its own inverse; by default
/// nobody changes places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdSwap {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

impl IdSwap {
    /// Returns what the user and group `owner` of one side are on the other.
    pub fn owner(self, (uid, gid): (u32, u32)) -> (u32, u32) {
        (swap(self.uid, uid), swap(self.gid, gid))
    }

    /// Returns whether both ids are in the caller's user namespace.
    pub fn is_possible(self) -> io::Result<bool> {
        let uids = map(&read_map("uid_map")?, self.uid);
        let gids = map(&read_map("gid_map")?, self.gid);
        Ok(uids.is_some() && gids.is_some())
    }

    /// Returns what is to be written to `uid_map` and `gid_map` of a namespace below this process's.
    pub(super) fn maps(self) -> io::Result<[String; 2]> {
        let uids = map(&read_map("uid_map")?, self.uid);
        let gids = map(&read_map("gid_map")?, self.gid);
        match (uids, gids) {
            (Some(uids), Some(gids)) => Ok([uids, gids]),
            _ => Err(io::Error::from_raw_os_error(libc::EOVERFLOW)),
        }
    }
}

fn read_map(name: &str) -> io::Result<String> {
    fs::read_to_string(Path::new("/proc/self").join(name))
}

fn swap(with: u32, id: u32) -> u32 {
    match id {
        0 => with,
        id if id == with => 0,
        id => id,
    }
}

/// Returns the map of a namespace in which `with` and 0 have changed places, for a process whose
/// own namespace has the map `own`; `None` if `with` is not in it.
///
/// No line reaches over a line of `own`, which the kernel does not take.
fn map(own: &str, with: u32) -> Option<String> {
    let mut text = String::new();
    let mut found = false;
    for line in own.lines() {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), _, Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return None;
        };
        let end = first + count;
        found |= (first..end).contains(&u64::from(with));
        let with = u64::from(with);
        let mut cuts = vec![first, end];
        cuts.extend(
            [0, 1, with, with + 1]
                .into_iter()
                .filter(|cut| (first..end).contains(cut)),
        );
        cuts.sort_unstable();
        cuts.dedup();
        for pair in cuts.windows(2) {
            let inside = u32::try_from(pair[0])
                .map(|id| swap(with as u32, id))
                .ok()?;
            text.push_str(&format!("{inside} {} {}\n", pair[0], pair[1] - pair[0]));
        }
    }
    found.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ids_change_places_and_no_line_is_crossed() {
        let own = "         0       1001          1\n         1     100000      65536\n";
        assert_eq!(
            map(own, 1000).unwrap(),
            "1000 0 1\n1 1 999\n0 1000 1\n1001 1001 64536\n"
        );
        assert_eq!(map(own, 1).unwrap(), "1 0 1\n0 1 1\n2 2 65535\n");
        assert_eq!(
            map(own, 65536).unwrap(),
            "65536 0 1\n1 1 65535\n0 65536 1\n"
        );
        assert_eq!(map(own, 65537), None);
        let whole = "0 0 4294967295\n";
        assert_eq!(
            map(whole, 5).unwrap(),
            "5 0 1\n1 1 4\n0 5 1\n6 6 4294967289\n"
        );
    }

    #[test]
    fn a_swap_undoes_itself() {
        let swap = IdSwap { uid: 7, gid: 9 };
        for id in [0, 1, 7, 9, 65534] {
            assert_eq!(swap.owner(swap.owner((id, id))), (id, id));
            assert_eq!(IdSwap::default().owner((id, id)), (id, id));
        }
        assert_eq!(swap.owner((0, 0)), (7, 9));
        assert_eq!(swap.owner((9, 7)), (9, 7));
    }
}
