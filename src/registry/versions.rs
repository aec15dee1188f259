//! Schema id -> the subjects that have it, and as which version.

use serde::{Deserialize, Serialize};

use super::{Registry, RegistryError, client::Failure};
use crate::wire::SchemaId;

/// Where a schema is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectVersion {
    /// The subject.
    pub subject: String,
    /// The version under it.
    pub version: u32,
}

impl Registry {
    /// Every subject that has the schema of this id; none where the registry does not say.
    pub async fn subjects_of(
        &self,
        id: SchemaId,
    ) -> Result<Option<Vec<SubjectVersion>>, RegistryError> {
        let path = format!("schemas/ids/{id}/versions?deleted=true");
        match self.inner.client.get(&path).await {
            Ok(found) => Ok(Some(found)),
            // not every registry has this call
            Err(Failure::Said(_)) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }
}
