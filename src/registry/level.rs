//! How much a subject's schema may change.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Registry, RegistryError, client::segment};

/// The compatibility levels of the Confluent registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Compatibility {
    /// The new schema reads what was written with the latest one.
    #[default]
    Backward,
    /// The new schema reads what was written with any earlier one.
    BackwardTransitive,
    /// The latest schema reads what is written with the new one.
    Forward,
    /// Every earlier schema reads what is written with the new one.
    ForwardTransitive,
    /// Both ways with the latest schema.
    Full,
    /// Both ways with every earlier schema.
    FullTransitive,
    /// Anything goes.
    None,
}

impl Registry {
    /// The level set on the subject; `None` where the registry's own default applies.
    pub async fn compatibility(
        &self,
        subject: &str,
    ) -> Result<Option<Compatibility>, RegistryError> {
        self.level(&format!("config/{}", segment(subject)?)).await
    }

    /// Sets the subject's level where it is another one, and says whether it was. The subject
    /// need not exist yet, so that the level can be there before the first schema.
    pub async fn set_compatibility(
        &self,
        subject: &str,
        level: Compatibility,
    ) -> Result<bool, RegistryError> {
        let path = format!("config/{}", segment(subject)?);
        if self.level(&path).await? == Some(level) {
            return Ok(false);
        }
        let body = json!({ "compatibility": level });
        let _: serde::de::IgnoredAny = self.inner.client.put(&path, &body).await?;
        Ok(true)
    }

    /// The level that holds for a subject, its own or the registry's default.
    pub(super) async fn effective_level(
        &self,
        subject_segment: &str,
    ) -> Result<Option<Compatibility>, RegistryError> {
        self.level(&format!("config/{subject_segment}?defaultToGlobal=true")).await
    }

    async fn level(&self, path: &str) -> Result<Option<Compatibility>, RegistryError> {
        #[derive(Deserialize)]
        struct Config {
            #[serde(rename = "compatibilityLevel", alias = "compatibility")]
            level: Compatibility,
        }
        match self.inner.client.get::<Config>(path).await {
            Ok(config) => Ok(Some(config.level)),
            Err(failure) => Ok(failure.unless_not_found().map(|()| None)?),
        }
    }
}

impl Compatibility {
    const ALL: [Self; 7] = [
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
        Self::None,
    ];

    /// Whether a new schema has to read what older ones wrote.
    pub fn reads_older(self) -> bool {
        matches!(
            self,
            Self::Backward | Self::BackwardTransitive | Self::Full | Self::FullTransitive
        )
    }

    /// Whether older schemas have to read what a new one writes.
    pub fn is_read_by_older(self) -> bool {
        matches!(self, Self::Forward | Self::ForwardTransitive | Self::Full | Self::FullTransitive)
    }
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
            Self::None => "NONE",
        })
    }
}

impl FromStr for Compatibility {
    type Err = String;

    /// Reads a level in any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found =
            Self::ALL.into_iter().find(|level| level.to_string().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let levels: Vec<_> = Self::ALL.iter().map(ToString::to_string).collect();
            format!("{text:?} is no compatibility level; there are {}", levels.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_reads_as_it_is_written() {
        for level in Compatibility::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
            assert_eq!(level.to_string().to_lowercase().parse(), Ok(level));
            assert_eq!(serde_json::to_value(level).unwrap(), level.to_string());
        }
        let error = "SIDEWAYS".parse::<Compatibility>().unwrap_err();
        assert!(error.contains("FULL_TRANSITIVE"), "{error}");
    }
}
