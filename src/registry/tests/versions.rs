use super::{super::*, *};
use crate::wire::SchemaId;

const PATH: &str = "/schemas/ids/7/versions";

async fn subjects(answer: ResponseTemplate) -> Result<Option<Vec<SubjectVersion>>, RegistryError> {
    let (server, registry) = start().await;
    get(PATH).respond_with(answer).mount(&server).await;
    registry.subjects_of(SchemaId(7)).await
}

#[tokio::test]
async fn a_schema_may_be_under_several_subjects() {
    let all = json!([{"subject": "a-value", "version": 1}, {"subject": "b-value", "version": 3}]);
    let found = subjects(ok(all)).await.unwrap().unwrap();
    let found: Vec<_> = found.iter().map(|at| (at.subject.as_str(), at.version)).collect();
    assert_eq!(found, [("a-value", 1), ("b-value", 3)]);
}

#[tokio::test]
async fn a_registry_that_does_not_say_is_told_from_one_that_is_away() {
    assert_eq!(subjects(says(40403, "Schema not found")).await, Ok(None));
    assert_eq!(subjects(says(405, "Method Not Allowed")).await, Ok(None));
    let away = subjects(ResponseTemplate::new(503)).await;
    assert!(matches!(away, Err(RegistryError::Away(_))), "{away:?}");
}
