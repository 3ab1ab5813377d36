//! `--allow`: what a Dockerfile may ask for beyond the usual, since it can't give that to itself.

use crate::build::Grant;

/// Permissions for RUN steps.
#[derive(Debug, clap::Args)]
pub(super) struct GrantArgs {
    /// Permission for RUN steps that ask for it: `network.host`, `security.insecure`, `device` or
    /// `device=NAME`
    #[arg(long = "allow", value_name = "PERMISSION", value_parser = grant)]
    pub(super) allow: Vec<Grant>,
}

fn grant(text: &str) -> Result<Grant, String> {
    match text {
        "network.host" => Ok(Grant::NetworkHost),
        "security.insecure" => Ok(Grant::SecurityInsecure),
        "device" => Ok(Grant::Device(None)),
        _ => match text.strip_prefix("device=") {
            Some(name) if !name.is_empty() => Ok(Grant::Device(Some(name.to_owned()))),
            _ => Err(
                "expected `network.host`, `security.insecure`, `device` or `device=NAME`"
                    .to_owned(),
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_buildkits() {
        assert_eq!(grant("network.host"), Ok(Grant::NetworkHost));
        assert_eq!(grant("security.insecure"), Ok(Grant::SecurityInsecure));
        let name = "acme.com/gpu=0".to_owned();
        assert_eq!(
            grant("device=acme.com/gpu=0"),
            Ok(Grant::Device(Some(name)))
        );
        for bad in ["", "network", "device=", "security"] {
            assert!(grant(bad).is_err(), "{bad}");
        }
    }
}
