//! `/etc/subuid` lines and id maps, as text and as numbers (subuid(5), user_namespaces(7)).

use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Ids that a user may map: `count` of them from `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first id.
    pub start: u32,
    /// How many; never 0.
    pub count: u32,
}

/// The ranges that a subuid(5) or subgid(5) file gives to `name` or `uid`, in file order.
///
/// Malformed lines, empty ranges and those that leave the 32 bits are passed over, and a range
/// that overlaps one before it is left out: the kernel would refuse the whole map.
pub fn ranges(file: &[u8], name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    let mut found: Vec<Range> = Vec::new();
    let lines = file.split(|&byte| byte == b'\n');
    for line in lines.filter_map(|line| std::str::from_utf8(line).ok()) {
        let mut fields = line.trim().split(':');
        let owner = fields.next().unwrap_or_default();
        if Some(owner) != name && owner != number {
            continue;
        }
        let mut field = || fields.next().and_then(|text| text.parse::<u32>().ok());
        let (Some(start), Some(count)) = (field(), field()) else {
            continue;
        };
        let new = Range { start, count };
        if count != 0 && start.checked_add(count).is_some() && !found.iter().any(|r| r.meets(new)) {
            found.push(new);
        }
    }
    found
}

/// Asks getsubids(1), which knows the name service's ranges too. Whatever goes wrong means none.
pub(super) fn ask(program: &Option<PathBuf>, flags: &[&str], name: Option<&str>) -> Vec<Range> {
    let (Some(program), Some(name)) = (program, name) else {
        return Vec::new();
    };
    let output = Command::new(program)
        .args(flags)
        .arg(name)
        .env_clear()
        .stdin(Stdio::null())
        .output();
    output.map_or_else(|_| Vec::new(), |output| answered(&output.stdout, name))
}

/// The ranges in the answer of getsubids(1): `0: ann 100000 65536`, a line each.
fn answered(answer: &[u8], name: &str) -> Vec<Range> {
    let text = String::from_utf8_lossy(answer);
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let owner = words.next().filter(|owner| *owner == name)?;
        Some(format!("{owner}:{}:{}\n", words.next()?, words.next()?))
    });
    ranges(lines.collect::<String>().as_bytes(), Some(name), u32::MAX)
}

impl Range {
    fn meets(self, other: Self) -> bool {
        self.start < other.start + other.count && other.start < self.start + self.count
    }
}

/// The lines of `/proc/PID/uid_map`.
pub(super) fn id_map(text: &str) -> Vec<[u32; 3]> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        Some([numbers.next()??, numbers.next()??, numbers.next()??])
    };
    text.lines().filter_map(line).collect()
}

/// How many ids from 0 on a map has without a gap.
pub(super) fn covered(map: &[[u32; 3]]) -> u32 {
    let mut next = 0_u32;
    // Every round takes a line or ends.
    while let Some([inside, _, count]) = map
        .iter()
        .find(|[inside, _, count]| *inside <= next && next - inside < *count)
    {
        next = inside.saturating_add(*count);
    }
    next
}

/// The map of a new namespace whose 0 is `own` outside and whose further ids are `ranges`, one
/// after the other.
pub(super) fn map_for(own: u32, ranges: &[Range]) -> Vec<[u32; 3]> {
    let mut map = vec![[0, own, 1]];
    let mut next = 1_u32;
    for range in ranges {
        map.push([next, range.start, range.count]);
        next = next.saturating_add(range.count);
    }
    map
}

/// The map of a new namespace that has every id its parent has, under the same number.
pub(super) fn same_ids(outer: &[[u32; 3]]) -> Vec<[u32; 3]> {
    outer
        .iter()
        .map(|&[inside, _, count]| [inside, inside, count])
        .collect()
}

/// A map in the form the kernel reads.
pub(super) fn lines(map: &[[u32; 3]]) -> String {
    map.iter()
        .fold(String::new(), |mut text, [inside, outside, count]| {
            writeln!(text, "{inside} {outside} {count}")
                .expect("a string takes all that is written");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let file = b"ann:100000:65536\n# bob\nbob:200000:10\n1000:300000:5\n\nann:x:1\nann:7\n";
        let range = |start, count| Range { start, count };
        assert_eq!(
            ranges(file, Some("ann"), 1000),
            [range(100_000, 65_536), range(300_000, 5)]
        );
        assert_eq!(ranges(file, None, 1000), [range(300_000, 5)]);
        assert_eq!(ranges(file, Some("eve"), 7), []);
    }

    #[test]
    fn a_name_service_answers_through_getsubids() {
        let answer = b"0: ann 100000 65536\n1: ann 300000 5\nError fetching ranges\n2: bob 7 7\n";
        let range = |start, count| Range { start, count };
        let want = [range(100_000, 65_536), range(300_000, 5)];
        assert_eq!(answered(answer, "ann"), want);
        assert_eq!(ask(&None, &[], Some("ann")), []);
    }

    #[test]
    fn ranges_the_kernel_would_refuse_are_left_out() {
        let file = b"a:100:10\na:105:10\na:110:1\na:4294967295:9\na:5:0\na:-4:5\n";
        let range = |start, count| Range { start, count };
        assert_eq!(ranges(file, Some("a"), 1), [range(100, 10), range(110, 1)]);
    }

    #[test]
    fn a_map_puts_the_caller_first_and_the_ranges_behind() {
        let map = map_for(
            1000,
            &[
                Range {
                    start: 100_000,
                    count: 65_536,
                },
                Range {
                    start: 500,
                    count: 2,
                },
            ],
        );
        assert_eq!(lines(&map), "0 1000 1\n1 100000 65536\n65537 500 2\n");
    }

    #[test]
    fn a_map_covers_ids_up_to_its_first_gap() {
        assert_eq!(covered(&[]), 0);
        assert_eq!(covered(&[[0, 1000, 1]]), 1);
        assert_eq!(covered(&[[1, 100_000, 65_536], [0, 1000, 1]]), 65_537);
        assert_eq!(covered(&[[0, 1000, 1], [2, 100_000, 65_536]]), 1);
        assert_eq!(covered(&[[0, 0, u32::MAX]]), u32::MAX);
    }

    #[test]
    fn an_outer_map_is_passed_on_under_the_same_numbers() {
        let outer = id_map("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(outer, [[0, 1000, 1], [1, 100_000, 65_536]]);
        assert_eq!(lines(&same_ids(&outer)), "0 0 1\n1 1 65536\n");
    }
}
