//! What a work tree's settings say of its remotes, as far as git-config(1) writes it down: pure.
//!
//! Files that others include are not read.

/// One setting.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    /// In lower case.
    section: String,
    part: Option<String>,
    /// In lower case.
    key: String,
    value: String,
}

/// The settings of several files; of one with one value the last counts.
#[derive(Debug, Default)]
pub(super) struct Config {
    settings: Vec<Setting>,
}

impl Config {
    /// Adds those of one file. A line that says nothing is passed over.
    pub(super) fn read(&mut self, text: &str) {
        let (mut section, mut part) = (String::new(), None);
        // A backslash at the end of a line goes on with the next one.
        let text = text.replace("\\\r\n", "").replace("\\\n", "");
        for line in text.lines().map(str::trim) {
            match line.strip_prefix('[') {
                Some(header) => {
                    let (name, quoted) = match header.split_once(['"', ']']) {
                        Some((name, rest)) if header[name.len()..].starts_with('"') => {
                            (name, Some(unquoted(&format!("\"{rest}"))))
                        }
                        Some((name, _)) => (name, None),
                        None => continue,
                    };
                    section = name.trim().to_lowercase();
                    part = quoted;
                }
                None => {
                    let Some((key, value)) = line.split_once('=') else {
                        continue;
                    };
                    self.settings.push(Setting {
                        section: section.clone(),
                        part: part.clone(),
                        key: key.trim().to_lowercase(),
                        value: unquoted(value.trim()),
                    });
                }
            }
        }
    }

    /// The values of `[section "part"] key`, `key` in lower case.
    fn all<'a>(
        &'a self,
        section: &'a str,
        part: Option<&'a str>,
        key: &'a str,
    ) -> impl DoubleEndedIterator<Item = &'a str> {
        let is = move |setting: &&Setting| {
            setting.section == section && setting.part.as_deref() == part && setting.key == key
        };
        let all = self.settings.iter().filter(is);
        all.map(|setting| setting.value.as_str())
    }

    /// The value of a setting without a part.
    pub(super) fn get(&self, section: &str, key: &str) -> Option<&str> {
        let all = self.settings.iter().rev();
        let mut own = all.filter(|s| s.section == section && s.part.is_none() && s.key == key);
        own.next().map(|setting| setting.value.as_str())
    }

    /// The address of the remote that `branch` follows, or else of `origin` or `upstream`, as it
    /// is when it is used.
    pub(super) fn address(&self, branch: Option<&str>) -> Option<String> {
        let followed = branch.and_then(|name| self.all("branch", Some(name), "remote").last());
        let mut wanted = followed.into_iter().chain(["origin", "upstream"]);
        // Of several addresses of one remote the first is fetched from.
        let found = wanted.find_map(|name| self.all("remote", Some(name), "url").next());
        found.map(|address| self.rewritten(address))
    }

    /// An address with its longest beginning that has a replacement (`insteadOf`) replaced.
    fn rewritten(&self, address: &str) -> String {
        let rules = self.settings.iter().filter_map(|setting| {
            let rule = setting.section == "url" && setting.key == "insteadof";
            let rest = address.strip_prefix(&setting.value)?;
            let base = setting.part.as_deref()?;
            (rule && !setting.value.is_empty()).then_some((base, rest))
        });
        // Of rules for the same beginning the first counts.
        match rules.min_by_key(|(_, rest)| rest.len()) {
            Some((base, rest)) => format!("{base}{rest}"),
            None => address.to_owned(),
        }
    }
}

/// A value without its quotes, escapes and comment. One that begins with a quote as a name does
/// ends with it.
fn unquoted(text: &str) -> String {
    let mut out = String::new();
    let mut kept = 0;
    let mut quoted = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            ']' if !quoted && text.starts_with('"') => break,
            '#' | ';' if !quoted => break,
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
        // Blanks at the end count where they are quoted.
        if quoted || !c.is_whitespace() {
            kept = out.len();
        }
    }
    out.truncate(kept);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[core]\n\tbare = false\n[remote \"upstream\"]\n\turl = u\n\
                          [remote \"origin\"]\n\turl = o\n\tfetch = +refs/*:x=y\n\
                          [remote \"fork\"]\n\turl = \"f\"\n[branch \"mine\"]\n\tremote = fork\n";

    fn address(text: &str, branch: Option<&str>) -> Option<String> {
        let mut config = Config::default();
        config.read(text);
        config.address(branch)
    }

    #[test]
    fn the_remote_of_the_branch_comes_before_origin_and_upstream() {
        assert_eq!(address(CONFIG, Some("mine")).as_deref(), Some("f"));
        assert_eq!(address(CONFIG, Some("main")).as_deref(), Some("o"));
        assert_eq!(address(CONFIG, None).as_deref(), Some("o"));
        let upstream = address("[remote \"upstream\"]\nurl=u\n", None);
        assert_eq!(upstream.as_deref(), Some("u"));
        assert_eq!(address("[remote \"other\"]\nurl=x\n", None), None);
        assert_eq!(address("[remote\nurl=x\nurl\n", None), None);
    }

    #[test]
    fn the_longest_beginning_is_replaced() {
        let rules = "[URL \"https://all/\"]\n insteadOf = gh:\n\
                     [url \"https://mine/\"]\n insteadof = \"gh:me/\"\n InsteadOf = x\n";
        let of = |url: &str| {
            let text = format!("{rules}[remote \"origin\"]\nurl = {url}\n");
            address(&text, None).unwrap()
        };
        assert_eq!(of("gh:you/a"), "https://all/you/a");
        assert_eq!(of("gh:me/a"), "https://mine/a");
        assert_eq!(of("https://other/a"), "https://other/a");
    }

    #[test]
    fn values_are_read_as_git_writes_them() {
        for (text, want) in [
            ("a b  # comment", "a b"),
            (r#""a # b " ; c"#, "a # b "),
            (r#"\"a\\b"#, r#""a\b"#),
            (r#""a"b"#, "ab"),
            ("", ""),
        ] {
            assert_eq!(unquoted(text), want, "{text}");
        }
        let mut config = Config::default();
        config.read("[a \"x\\\"]y\"] # c\nk = 1\\\n2\n[Core]\nWorkTree = ../t\n");
        assert_eq!(config.all("a", Some("x\"]y"), "k").next(), Some("12"));
        assert_eq!(config.get("core", "worktree"), Some("../t"));
    }
}
