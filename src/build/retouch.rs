//! What images are besides what their Dockerfile says: options that change the config of every
//! stage before its first instruction, and that of the result after its last. Pure.

use crate::image::{Config, ContainerConfig, Raw};

use super::scope::Env;

/// The annotation of the image spec that says when an image was made.
pub(super) const CREATED: &str = "org.opencontainers.image.created";

/// Changes of configs that options ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retouch {
    /// `--env`: variables of every stage, which an ENV of the stage may change.
    pub env: Vec<(String, String)>,
    /// `--unsetenv`: variables that the result has not, whoever set them.
    pub unset_env: Vec<String>,
    /// `--unsetlabel`: labels that no stage takes over from what it is built on.
    pub unset_labels: Vec<String>,
    /// `--inherit-labels=false`: no stage takes any over.
    pub no_inherited_labels: bool,
    /// `--os-version`.
    pub os_version: Option<String>,
    /// `--os-feature`, besides those of the base.
    pub os_features: Vec<String>,
    /// `--omit-history`: the result does not tell how it was made.
    pub omit_history: bool,
    /// `--created-annotation`: the manifest says when the image was made.
    pub created_annotation: bool,
}

impl Retouch {
    /// Changes what a stage begins with.
    pub(super) fn begin(&self, config: &mut ContainerConfig, env: &mut Env) {
        if self.no_inherited_labels {
            config.labels.clear();
        }
        for label in &self.unset_labels {
            config.labels.remove(label);
        }
        for (key, value) in &self.env {
            config.set_env(key, value);
            env.set(key, value);
        }
    }

    /// Changes the config of the result.
    pub(super) fn finish(&self, config: Raw<Config>) -> Raw<Config> {
        let mut value = config.value().clone();
        for key in &self.unset_env {
            let named = |pair: &String| pair.split('=').next() == Some(key);
            value.config.env.retain(|pair| !named(pair));
        }
        if let Some(version) = &self.os_version {
            value.os_version = Some(version.clone());
        }
        for feature in &self.os_features {
            if !value.os_features.contains(feature) {
                value.os_features.push(feature.clone());
            }
        }
        if self.omit_history {
            value.history.clear();
        }
        match value == *config.value() {
            true => config,
            false => Raw::of(value),
        }
    }

    /// The annotation that the manifest of an image with this config gets.
    pub(super) fn annotation(&self, config: &Config) -> Option<(String, String)> {
        let created = config.created.clone().filter(|_| self.created_annotation)?;
        Some((CREATED.to_owned(), created))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let mut config = Config::empty(&"linux/amd64".parse().unwrap());
        config.config.set_env("A", "1");
        config.config.set_env("AB", "2");
        config.created = Some("2020-01-02T03:04:05Z".to_owned());
        config.os_features = vec!["x".to_owned()];
        config
    }

    #[test]
    fn without_options_a_config_keeps_its_bytes() {
        let raw = Raw::of(config());
        let none = Retouch::default();
        assert_eq!(none.finish(raw.clone()).bytes(), raw.bytes());
        assert_eq!(none.annotation(raw.value()), None);
    }

    #[test]
    fn a_result_loses_and_gains_what_was_asked_for() {
        let asked = Retouch {
            unset_env: vec!["A".to_owned(), "none".to_owned()],
            os_version: Some("6.1".to_owned()),
            os_features: vec!["x".to_owned(), "y".to_owned()],
            created_annotation: true,
            ..Retouch::default()
        };
        let made = asked.finish(Raw::of(config()));
        let value = made.value();
        assert_eq!(value.config.env, ["AB=2"]);
        assert_eq!(value.os_version.as_deref(), Some("6.1"));
        assert_eq!(value.os_features, ["x", "y"]);
        let annotation = asked.annotation(value);
        assert_eq!(
            annotation,
            Some((CREATED.to_owned(), "2020-01-02T03:04:05Z".to_owned()))
        );
    }

    #[test]
    fn a_stage_takes_over_the_labels_that_it_may() {
        let begin = |asked: &Retouch| {
            let mut config = ContainerConfig::default();
            for key in ["a", "b"] {
                config.labels.insert(key.to_owned(), String::new());
            }
            let mut env = Env::default();
            asked.begin(&mut config, &mut env);
            let labels: Vec<String> = config.labels.into_keys().collect();
            (labels, config.env, env.pairs().len())
        };
        let some = Retouch {
            unset_labels: vec!["a".to_owned()],
            env: vec![("K".to_owned(), "v".to_owned())],
            ..Retouch::default()
        };
        let pair = vec!["K=v".to_owned()];
        assert_eq!(begin(&some), (vec!["b".to_owned()], pair, 1));
        let none = Retouch {
            no_inherited_labels: true,
            ..Retouch::default()
        };
        assert_eq!(begin(&none), (Vec::new(), Vec::new(), 0));
    }
}
