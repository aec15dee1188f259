//! Contracts as subjects of the schema registry.

use anyhow::Error;

use crate::{
    contract::Contract,
    registry::{Away, Compatibility, RegisterError, Registration, Registry, RegistryError},
};

/// Sets the subject's compatibility level and registers the contract's own text under it.
///
/// Doing so again changes nothing. An incompatible change is an error that names the field.
pub async fn register(
    registry: &Registry,
    subject: &str,
    contract: &Contract,
) -> anyhow::Result<Registration> {
    let level = contract.compatibility;
    let set_level = async || {
        registry.set_compatibility(subject, level).await.map_err(|error| match error {
            RegistryError::Away(away) => unreachable(away),
            other => Error::new(other)
                .context(format!("the compatibility of \"{subject}\" can't be set to {level}")),
        })
    };
    // a registry may refuse NONE for a subject that it does not have yet, and anything else must
    // hold before the first version is there
    if level != Compatibility::None {
        set_level().await?;
    }
    let registered =
        registry.register(subject, &contract.text).await.map_err(|error| match error {
            RegisterError::Incompatible { subject, problems } => anyhow::anyhow!(
                "{} breaks the {level} compatibility of \"{subject}\": {}",
                contract.file.display(),
                problems.join("; ")
            ),
            RegisterError::Registry(RegistryError::Away(away)) => unreachable(away),
            other => Error::new(other).context(format!("\"{subject}\" can't be registered")),
        })?;
    if level == Compatibility::None {
        set_level().await?;
    }
    Ok(registered)
}

fn unreachable(away: Away) -> Error {
    Error::new(away)
        .context("no schema registry answers; start it with `make up`, or set SCHEMA_REGISTRY_URL")
}
