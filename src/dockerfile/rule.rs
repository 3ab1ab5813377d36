//! The rules of the linter: names, descriptions and pages, as BuildKit has them.

/// A rule of the linter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A word is not in the case of the majority.
    ConsistentInstructionCasing,
    /// COPY or ADD of what the ignore file leaves out.
    CopyIgnoredFile,
    /// Two stages with one name.
    DuplicateStageName,
    /// EXPOSE with an address or a port of the host.
    ExposeInvalidFormat,
    /// EXPOSE with capitals in the protocol.
    ExposeProtoCasing,
    /// `FROM … as` or `from … AS`.
    FromAsCasing,
    /// `FROM --platform` that no argument can change.
    FromPlatformFlagConstDisallowed,
    /// A base image of another platform than the build's.
    InvalidBaseImagePlatform,
    /// A FROM that is wrong when no build argument is given.
    InvalidDefaultArgInFrom,
    /// A comment that describes a stage or argument without naming it.
    InvalidDefinitionDescription,
    /// CMD or ENTRYPOINT in shell form.
    JsonArgsRecommended,
    /// `ENV key value`.
    LegacyKeyValueFormat,
    /// MAINTAINER.
    MaintainerDeprecated,
    /// A second CMD, ENTRYPOINT or HEALTHCHECK in a stage.
    MultipleInstructionsDisallowed,
    /// An empty line inside an instruction.
    NoEmptyContinuation,
    /// `FROM --platform=$TARGETPLATFORM`.
    RedundantTargetPlatform,
    /// A stage called `scratch` or `context`.
    ReservedStageName,
    /// An ARG or ENV whose name promises a secret.
    SecretsUsedInArgOrEnv,
    /// A stage name with capitals.
    StageNameCasing,
    /// A FROM with an argument that no ARG declares.
    UndefinedArgInFrom,
    /// A variable that nobody sets.
    UndefinedVar,
    /// A relative WORKDIR before any other.
    WorkdirRelativePath,
}

impl Rule {
    /// Returns the name, as `skip=` and reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsistentInstructionCasing => "ConsistentInstructionCasing",
            Self::CopyIgnoredFile => "CopyIgnoredFile",
            Self::DuplicateStageName => "DuplicateStageName",
            Self::ExposeInvalidFormat => "ExposeInvalidFormat",
            Self::ExposeProtoCasing => "ExposeProtoCasing",
            Self::FromAsCasing => "FromAsCasing",
            Self::FromPlatformFlagConstDisallowed => "FromPlatformFlagConstDisallowed",
            Self::InvalidBaseImagePlatform => "InvalidBaseImagePlatform",
            Self::InvalidDefaultArgInFrom => "InvalidDefaultArgInFrom",
            Self::InvalidDefinitionDescription => "InvalidDefinitionDescription",
            Self::JsonArgsRecommended => "JSONArgsRecommended",
            Self::LegacyKeyValueFormat => "LegacyKeyValueFormat",
            Self::MaintainerDeprecated => "MaintainerDeprecated",
            Self::MultipleInstructionsDisallowed => "MultipleInstructionsDisallowed",
            Self::NoEmptyContinuation => "NoEmptyContinuation",
            Self::RedundantTargetPlatform => "RedundantTargetPlatform",
            Self::ReservedStageName => "ReservedStageName",
            Self::SecretsUsedInArgOrEnv => "SecretsUsedInArgOrEnv",
            Self::StageNameCasing => "StageNameCasing",
            Self::UndefinedArgInFrom => "UndefinedArgInFrom",
            Self::UndefinedVar => "UndefinedVar",
            Self::WorkdirRelativePath => "WorkdirRelativePath",
        }
    }

    /// Returns what the rule asks for, in a sentence.
    pub fn description(self) -> &'static str {
        match self {
            Self::ConsistentInstructionCasing => {
                "All commands within the Dockerfile should use the same casing (either upper or lower)"
            }
            Self::CopyIgnoredFile => "Attempting to Copy file that is excluded by .dockerignore",
            Self::DuplicateStageName => "Stage names should be unique",
            Self::ExposeInvalidFormat => {
                "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release"
            }
            Self::ExposeProtoCasing => "Protocol in EXPOSE instruction should be lowercase",
            Self::FromAsCasing => "The 'as' keyword should match the case of the 'from' keyword",
            Self::FromPlatformFlagConstDisallowed => {
                "FROM --platform flag should not use a constant value"
            }
            Self::InvalidBaseImagePlatform => {
                "Base image platform does not match expected target platform"
            }
            Self::InvalidDefaultArgInFrom => {
                "Default value for global ARG results in an empty or invalid base image name"
            }
            Self::InvalidDefinitionDescription => {
                "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment."
            }
            Self::JsonArgsRecommended => {
                "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals"
            }
            Self::LegacyKeyValueFormat => {
                "Legacy key/value format with whitespace separator should not be used"
            }
            Self::MaintainerDeprecated => {
                "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
            }
            Self::MultipleInstructionsDisallowed => {
                "Multiple instructions of the same type should not be used in the same stage"
            }
            Self::NoEmptyContinuation => {
                "Empty continuation lines will become errors in a future release"
            }
            Self::RedundantTargetPlatform => {
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"
            }
            Self::ReservedStageName => "Reserved words should not be used as stage names",
            Self::SecretsUsedInArgOrEnv => {
                "Sensitive data should not be used in the ARG or ENV commands"
            }
            Self::StageNameCasing => "Stage names should be lowercase",
            Self::UndefinedArgInFrom => "FROM command must use declared ARGs",
            Self::UndefinedVar => "Variables should be defined before their use",
            Self::WorkdirRelativePath => {
                "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes"
            }
        }
    }

    /// Returns the page that explains the rule.
    pub fn url(self) -> String {
        let name = self.name().replace("JSON", "Json");
        let mut page = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() && !page.is_empty() {
                page.push('-');
            }
            page.push(c.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{page}/")
    }

    /// Returns whether the rule is applied only where `experimental=` asks for it.
    pub fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }

    /// Returns whether BuildKit reports the rule only for stages that are built, though the text
    /// alone shows it.
    pub fn needs_the_stage(self) -> bool {
        matches!(
            self,
            Self::JsonArgsRecommended
                | Self::LegacyKeyValueFormat
                | Self::MultipleInstructionsDisallowed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_named_after_their_rules() {
        let page = |rule: Rule| {
            let url = rule.url();
            let page = url.strip_prefix("https://docs.docker.com/go/dockerfile/rule/");
            page.unwrap_or_default().to_owned()
        };
        assert_eq!(page(Rule::JsonArgsRecommended), "json-args-recommended/");
        assert_eq!(
            page(Rule::SecretsUsedInArgOrEnv),
            "secrets-used-in-arg-or-env/"
        );
        assert_eq!(page(Rule::FromAsCasing), "from-as-casing/");
    }
}
