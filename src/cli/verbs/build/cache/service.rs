//! The services among caches: what `type=s3`, `azblob` and `gha` take, from the command line or
//! else from where their own tools look: the environment, and Amazon's file of credentials.

use std::path::PathBuf;
use std::time::Duration;

use super::{Given, Keys};
use crate::cli::env;
use crate::dockerfile;
use crate::transfer::{Actions, AwsKey, Azure, CacheLayout, S3, Secret, Service};

const S3_ONLY: &[&str] = &["s3"];
const AZURE_ONLY: &[&str] = &["azblob"];
const ACTIONS_ONLY: &[&str] = &["gha"];
const STORES: &[&str] = &["s3", "azblob"];

/// What they take in both directions.
pub(super) const KEYS: &Keys = &[
    ("name", STORES),
    ("prefix", STORES),
    ("manifests_prefix", STORES),
    ("blobs_prefix", STORES),
    ("secret_access_key", STORES),
    ("bucket", S3_ONLY),
    ("region", S3_ONLY),
    ("endpoint_url", S3_ONLY),
    ("use_path_style", S3_ONLY),
    ("access_key_id", S3_ONLY),
    ("session_token", S3_ONLY),
    ("touch_refresh", S3_ONLY),
    ("upload_parallelism", S3_ONLY),
    ("retry_mode", S3_ONLY),
    ("retry_max_attempts", S3_ONLY),
    ("account_url", AZURE_ONLY),
    ("account_name", AZURE_ONLY),
    ("container", AZURE_ONLY),
    ("url_v2", ACTIONS_ONLY),
    ("url", ACTIONS_ONLY),
    ("token", ACTIONS_ONLY),
    ("scope", ACTIONS_ONLY),
    ("timeout", ACTIONS_ONLY),
    ("repository", ACTIONS_ONLY),
    ("ghtoken", ACTIONS_ONLY),
];

/// A source of variables: the environment, but for tests.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads which service is meant.
pub(super) fn read(given: &Given) -> Result<Service, String> {
    let variables = &env::text;
    match given.kind.as_str() {
        "s3" => s3(given, variables).map(Service::S3),
        "azblob" => azure(given, variables).map(Service::Azure),
        _ => actions(given, variables).map(Service::Actions),
    }
}

impl Given {
    /// What was given for `key`, or a variable says.
    fn or(&self, key: &str, variable: &str, variables: Variables<'_>) -> Option<String> {
        let given = self.get(key).map(str::to_owned);
        given.or_else(|| variables(variable))
    }

    /// The same for what there must be.
    fn must(&self, key: &str, variable: &str, variables: Variables<'_>) -> Result<String, String> {
        self.or(key, variable, variables)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("`type={}` needs `{key}=`, or {variable}", self.kind))
    }

    fn text(&self, key: &str, otherwise: &str) -> String {
        self.get(key).unwrap_or(otherwise).to_owned()
    }

    fn duration(&self, key: &str, otherwise: Duration) -> Result<Duration, String> {
        let Some(text) = self.get(key) else {
            return Ok(otherwise);
        };
        dockerfile::go_duration(text)
            .ok_or_else(|| format!("`{key}={text}`: expected a duration such as `24h` or `10m`"))
    }

    fn count(&self, key: &str) -> Result<Option<u32>, String> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(0) | Err(_) => Err(format!("`{key}={text}`: expected a number above 0")),
            Ok(count) => Ok(Some(count)),
        }
    }

    /// The names of the cache.
    fn names(&self) -> Vec<String> {
        let names = self.get("name").unwrap_or("buildkit").split(';');
        let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
        names.into_iter().map(str::to_owned).collect()
    }
}

fn s3(given: &Given, variables: Variables<'_>) -> Result<S3, String> {
    let layout = CacheLayout::joined(
        &given.text("prefix", ""),
        &given.text("manifests_prefix", "manifests/"),
        &given.text("blobs_prefix", "blobs/"),
        given.names(),
    );
    if let Some(mode) = given.get("retry_mode")
        && !matches!(mode, "standard" | "adaptive")
    {
        return Err(format!(
            "`retry_mode={mode}`: expected `standard` or `adaptive`"
        ));
    }
    let parallel = given.count("upload_parallelism")?.unwrap_or(4);
    Ok(S3 {
        bucket: given.must("bucket", "AWS_BUCKET", variables)?,
        region: given.must("region", "AWS_REGION", variables)?,
        endpoint: given.get("endpoint_url").map(str::to_owned),
        path_style: given.flag("use_path_style")?.unwrap_or(false),
        layout,
        key: aws_key(given, variables)?,
        touch_refresh: given.duration("touch_refresh", Duration::from_secs(24 * 60 * 60))?,
        parallel: usize::try_from(parallel).unwrap_or(usize::MAX),
        attempts: given.count("retry_max_attempts")?,
    })
}

/// Finds the key: in the options, in the environment, or in the file of credentials.
fn aws_key(given: &Given, variables: Variables<'_>) -> Result<AwsKey, String> {
    let key = |get: &dyn Fn(&str) -> Option<String>| {
        let get = |name| get(name).filter(|value: &String| !value.is_empty());
        Some(AwsKey {
            id: get("access_key_id")?,
            secret: Secret::new(get("secret_access_key")?),
            token: get("session_token").map(Secret::new),
        })
    };
    let options = |name: &str| given.get(name).map(str::to_owned);
    let environment = |name: &str| variables(&format!("AWS_{}", name.to_ascii_uppercase()));
    if let Some(key) = key(&options).or_else(|| key(&environment)) {
        return Ok(key);
    }
    let file = variables("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let file = file.or_else(|| Some(PathBuf::from(variables("HOME")?).join(".aws/credentials")));
    let text = file.and_then(|file| std::fs::read_to_string(file).ok());
    let text = text.unwrap_or_default();
    let profile = variables("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let in_file = |name: &str| of_profile(&text, &profile, &format!("aws_{name}"));
    key(&in_file).ok_or_else(|| {
        format!(
            "`type=s3` needs `access_key_id=` and `secret_access_key=`, AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY, or the profile `{profile}` in ~/.aws/credentials"
        )
    })
}

/// Reads a value of one profile out of a file of credentials.
fn of_profile(text: &str, profile: &str, name: &str) -> Option<String> {
    let head = |line: &str| Some(line.strip_prefix('[')?.strip_suffix(']')?.trim().to_owned());
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(found) = head(line) {
            inside = found == profile;
        } else if inside
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == name
        {
            return Some(value.trim().to_owned());
        }
    }
    None
}

fn azure(given: &Given, variables: Variables<'_>) -> Result<Azure, String> {
    let variable = |name: &str| format!("BUILDKIT_AZURE_STORAGE_{name}");
    let or = |key, name| given.or(key, &variable(name), variables);
    let account_url = given.must("account_url", &variable("ACCOUNT_URL"), variables)?;
    let key = given.get("secret_access_key").map(Secret::new);
    // Behind the question mark may stand a shared access signature.
    if key.is_none() && !account_url.contains("sig=") {
        return Err(
            "`type=azblob` needs `secret_access_key=`, or an `account_url` with a shared \
                    access signature"
                .to_owned(),
        );
    }
    let host = account_url.split("://").nth(1).unwrap_or_default();
    let first = host.split(['.', ':', '/']).next().unwrap_or_default();
    let joined = |parts: &[&str]| {
        let parts = parts.iter().map(|part| part.trim_matches('/'));
        let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!("{}/", parts.join("/")),
        }
    };
    let prefix = or("prefix", "PREFIX").unwrap_or_default();
    Ok(Azure {
        account: or("account_name", "ACCOUNT_NAME").unwrap_or_else(|| first.to_owned()),
        container: or("container", "CONTAINER").unwrap_or_else(|| "buildkit-cache".to_owned()),
        layout: CacheLayout::joined(
            "",
            &joined(&[&prefix, &given.text("manifests_prefix", "manifests")]),
            &joined(&[&prefix, &given.text("blobs_prefix", "blobs")]),
            given.names(),
        ),
        account_url: Secret::new(account_url),
        key,
    })
}

fn actions(given: &Given, variables: Variables<'_>) -> Result<Actions, String> {
    let actions = Actions {
        url: given.must("url_v2", "ACTIONS_RESULTS_URL", variables)?,
        token: Secret::new(given.must("token", "ACTIONS_RUNTIME_TOKEN", variables)?),
        scope: given.text("scope", "buildkit"),
        timeout: given.duration("timeout", Duration::from_secs(600))?,
    };
    match actions.is_usable() {
        true => Ok(actions),
        false => Err("the token of `type=gha` names no branch whose cache it is good for".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EXPORT, EXPORTED};
    use super::*;

    fn given(text: &str) -> Given {
        Given::read(text, EXPORT, EXPORTED).unwrap()
    }

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_bucket_is_read_with_its_options_and_defaults() {
        let text = "type=s3,bucket=b,region=r,access_key_id=i,secret_access_key=k,session_token=t,\
                    name=a;b,prefix=p/,use_path_style=true,endpoint_url=http://e,touch_refresh=1h,\
                    upload_parallelism=2,retry_mode=adaptive,retry_max_attempts=7";
        let s3 = s3(&given(text), &none).unwrap();
        assert_eq!((s3.bucket.as_str(), s3.region.as_str()), ("b", "r"));
        assert_eq!(s3.key.id, "i");
        assert_eq!(s3.key.token, Some(Secret::new("t")));
        assert!(s3.path_style);
        assert_eq!((s3.parallel, s3.attempts), (2, Some(7)));
        assert_eq!(s3.touch_refresh, Duration::from_secs(3600));
        let names = vec!["a".to_owned(), "b".to_owned()];
        let layout = CacheLayout::joined("p/", "manifests/", "blobs/", names);
        assert_eq!(s3.layout, layout);
        let shown = Service::S3(s3).shown();
        assert_eq!(shown, "s3://b/p/manifests/a, p/manifests/b");
    }

    #[test]
    fn what_is_not_given_comes_from_the_environment_or_the_file() {
        let variables = |name: &str| {
            let value = match name {
                "AWS_BUCKET" => "eb",
                "AWS_REGION" => "er",
                "AWS_ACCESS_KEY_ID" => "ei",
                "AWS_SECRET_ACCESS_KEY" => "ek",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let found = s3(&given("type=s3,region=r"), &variables).unwrap();
        assert_eq!((found.bucket.as_str(), found.region.as_str()), ("eb", "r"));
        assert_eq!(found.key.id, "ei");
        assert_eq!(found.key.token, None);
        let file = "[default]\naws_access_key_id = d\n[ci]\naws_access_key_id=c\n\
                    aws_secret_access_key = s = t\n";
        let of = |profile, name| of_profile(file, profile, name);
        assert_eq!(of("ci", "aws_access_key_id").as_deref(), Some("c"));
        assert_eq!(of("ci", "aws_secret_access_key").as_deref(), Some("s = t"));
        assert_eq!(of("default", "aws_secret_access_key"), None);
        assert_eq!(of("other", "aws_access_key_id"), None);
    }

    #[test]
    fn an_account_is_read_with_its_defaults() {
        let text = "type=azblob,account_url=https://acc.blob.example,secret_access_key=a2V5,\
                    prefix=/p/,blobs_prefix=x";
        let azure = azure(&given(text), &none).unwrap();
        assert_eq!(azure.account, "acc");
        assert_eq!(azure.container, "buildkit-cache");
        let names = vec!["buildkit".to_owned()];
        let layout = CacheLayout::joined("p/", "manifests/", "x/", names);
        assert_eq!(azure.layout, layout);
    }

    #[test]
    fn what_is_missing_is_named() {
        let s3 = |text| s3(&given(text), &none).unwrap_err();
        assert_eq!(s3("type=s3"), "`type=s3` needs `bucket=`, or AWS_BUCKET");
        assert_eq!(
            s3("type=s3,bucket=b"),
            "`type=s3` needs `region=`, or AWS_REGION"
        );
        let why = s3("type=s3,bucket=b,region=r,access_key_id=i");
        assert!(why.contains("AWS_SECRET_ACCESS_KEY"), "{why}");
        assert_eq!(
            s3("type=s3,bucket=b,upload_parallelism=0"),
            "`upload_parallelism=0`: expected a number above 0"
        );
        assert_eq!(
            s3("type=s3,bucket=b,retry_mode=fast"),
            "`retry_mode=fast`: expected `standard` or `adaptive`"
        );
        let why = azure(&given("type=azblob,account_url=https://a.b"), &none).unwrap_err();
        assert!(why.contains("shared access signature"), "{why}");
        let actions = |text| actions(&given(text), &none).unwrap_err();
        assert_eq!(
            actions("type=gha,url=http://old"),
            "`type=gha` needs `url_v2=`, or ACTIONS_RESULTS_URL"
        );
        let why = actions("type=gha,url_v2=http://new,token=a.b.c");
        assert!(why.contains("names no branch"), "{why}");
    }
}
