//! Several documents of a scanner as one, and the package URLs in it: pure.
//!
//! The first document stays as it is, but for what later ones add to its lists. A thing that has
//! the name and version of one that is there is passed over. Where there is nothing to add, the
//! bytes are the scanner's own.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use super::super::error::ScanError;
use super::Scanned;

/// How documents become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// One behind the other.
    Cat,
    /// `components` of CycloneDX documents by `name` and `version`.
    CycloneDx,
    /// `packages` of SPDX documents by `name` and `versionInfo`, and
    /// `hasExtractedLicensingInfos` by `licenseId`.
    Spdx,
}

impl std::str::FromStr for Merge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cat" => Ok(Self::Cat),
            "merge-cyclonedx-by-component-name-and-version" => Ok(Self::CycloneDx),
            "merge-spdx-by-package-name-and-versioninfo" => Ok(Self::Spdx),
            _ => Err(
                "expected cat, merge-cyclonedx-by-component-name-and-version or \
                 merge-spdx-by-package-name-and-versioninfo"
                    .to_owned(),
            ),
        }
    }
}

/// A list whose things are told from each other by some of their fields.
struct List {
    name: &'static str,
    /// The first must be there.
    by: &'static [&'static str],
}

const COMPONENTS: List = List {
    name: "components",
    by: &["name", "version"],
};
const PACKAGES: List = List {
    name: "packages",
    by: &["name", "versionInfo"],
};
const LICENSES: List = List {
    name: "hasExtractedLicensingInfos",
    by: &["licenseId"],
};

impl Merge {
    fn lists(self) -> &'static [List] {
        match self {
            Self::Cat => &[],
            Self::CycloneDx => &[COMPONENTS],
            Self::Spdx => &[PACKAGES, LICENSES],
        }
    }
}

/// Makes one of `documents`, each with the command that wrote it.
pub(super) fn merge(how: Merge, documents: Vec<(String, Vec<u8>)>) -> Result<Scanned, ScanError> {
    let mut purls = BTreeSet::new();
    for (_, bytes) in &documents {
        // What is no JSON has no list of packages either; whether that is wrong shows below.
        if let Ok(document) = serde_json::from_slice(bytes) {
            collect(&document, &mut purls);
        }
    }
    let list = purls
        .iter()
        .map(|purl| format!("{purl}\n"))
        .collect::<String>();
    Ok(Scanned {
        document: one(how, documents)?,
        purls: list.into_bytes(),
    })
}

fn one(how: Merge, documents: Vec<(String, Vec<u8>)>) -> Result<Vec<u8>, ScanError> {
    let mut rest = documents.into_iter();
    let Some((command, mut first)) = rest.next() else {
        return Ok(Vec::new());
    };
    if rest.len() == 0 || how == Merge::Cat {
        first.extend(rest.flat_map(|(_, bytes)| bytes));
        return Ok(first);
    }
    let mut base = object(&command, &first)?;
    for (command, bytes) in rest {
        let mut added = object(&command, &bytes)?;
        for list in how.lists() {
            extend(&mut base, added.remove(list.name), list).map_err(|why| ScanError::Merge {
                command: command.clone(),
                why,
            })?;
        }
    }
    let mut bytes = serde_json::to_vec_pretty(&base).expect("JSON was read");
    bytes.push(b'\n');
    Ok(bytes)
}

fn object(command: &str, bytes: &[u8]) -> Result<Map<String, Value>, ScanError> {
    serde_json::from_slice(bytes).map_err(|error| ScanError::Merge {
        command: command.to_owned(),
        why: error.to_string(),
    })
}

/// Adds to a list of `base` what it has nothing equal to.
fn extend(base: &mut Map<String, Value>, added: Option<Value>, list: &List) -> Result<(), String> {
    let Some(Value::Array(added)) = added else {
        return Ok(());
    };
    let known = base
        .entry(list.name)
        .or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(known) = known else {
        return Err(format!("`{}` is no list", list.name));
    };
    let mut seen = HashSet::new();
    for thing in known.iter() {
        seen.insert(identity(thing, list)?);
    }
    for thing in added {
        if seen.insert(identity(&thing, list)?) {
            known.push(thing);
        }
    }
    Ok(())
}

/// What a thing is told from others by.
fn identity(thing: &Value, list: &List) -> Result<Vec<Option<String>>, String> {
    let fields = list.by.iter().map(|field| thing[*field].as_str());
    let fields: Vec<Option<String>> = fields.map(|text| text.map(str::to_owned)).collect();
    match fields[0] {
        Some(_) => Ok(fields),
        None => Err(format!("one of `{}` has no `{}`", list.name, list.by[0])),
    }
}

/// Finds the package URLs of a document in either format.
fn collect(document: &Value, purls: &mut BTreeSet<String>) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for component in list(&document["components"]) {
        purls.extend(component["purl"].as_str().map(str::to_owned));
    }
    for package in list(&document["packages"]) {
        for reference in list(&package["externalRefs"]) {
            if reference["referenceType"] == "purl" {
                purls.extend(reference["referenceLocator"].as_str().map(str::to_owned));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(how: Merge, documents: &[Value]) -> Result<(Value, String), ScanError> {
        let named = |document: &Value| ("scan".to_owned(), document.to_string().into_bytes());
        let scanned = merge(how, documents.iter().map(named).collect())?;
        let purls = String::from_utf8(scanned.purls).unwrap();
        Ok((serde_json::from_slice(&scanned.document).unwrap(), purls))
    }

    #[test]
    fn components_are_added_once_by_name_and_version() {
        let component = |name: &str, version: &str| json!({ "name": name, "version": version, "purl": format!("pkg:x/{name}@{version}") });
        let one = json!({ "bomFormat": "CycloneDX", "components": [component("b", "1")] });
        let two = json!({ "components": [component("b", "1"), component("b", "2"), component("a", "1")] });
        let (document, purls) = merged(Merge::CycloneDx, &[one, two]).unwrap();
        let want = json!([
            component("b", "1"),
            component("b", "2"),
            component("a", "1")
        ]);
        assert_eq!(document["components"], want);
        assert_eq!(document["bomFormat"], "CycloneDX");
        assert_eq!(purls, "pkg:x/a@1\npkg:x/b@1\npkg:x/b@2\n");
    }

    #[test]
    fn packages_and_licenses_are_added_once() {
        let refs = |purl: &str| json!([{ "referenceType": "purl", "referenceLocator": purl }]);
        let one = json!({ "packages": [{ "name": "a", "externalRefs": refs("pkg:a") }] });
        let two = json!({
            "packages": [{ "name": "a" }, { "name": "a", "versionInfo": "2" }],
            "hasExtractedLicensingInfos": [{ "licenseId": "L" }],
        });
        let three = json!({ "hasExtractedLicensingInfos": [{ "licenseId": "L" }] });
        let (document, purls) = merged(Merge::Spdx, &[one.clone(), two, three]).unwrap();
        assert_eq!(document["packages"].as_array().unwrap().len(), 2);
        assert_eq!(
            document["hasExtractedLicensingInfos"],
            json!([{ "licenseId": "L" }])
        );
        assert_eq!(purls, "pkg:a\n");
        let nameless = json!({ "packages": [{ "versionInfo": "1" }] });
        let error = merged(Merge::Spdx, &[one, nameless]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "what `scan` wrote cannot be merged: one of `packages` has no `name`"
        );
    }

    #[test]
    fn one_document_and_those_that_are_put_together_keep_their_bytes() {
        let text = |text: &str| ("scan".to_owned(), text.as_bytes().to_vec());
        let lone = merge(Merge::Spdx, vec![text("no JSON")]).unwrap();
        assert_eq!(lone.document, b"no JSON");
        let both = merge(Merge::Cat, vec![text("{ }\n"), text("x")]).unwrap();
        assert_eq!(
            (both.document, both.purls),
            (b"{ }\nx".to_vec(), Vec::new())
        );
        assert!(merge(Merge::Spdx, vec![text("{}"), text("x")]).is_err());
    }
}
